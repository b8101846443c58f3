"""The client of TMInterface 1.x: shared memory, through the community's package ``tminterface``.

The package is GPL-3; it is imported here alone, when a client connects. It has no deadlines, runs our code while a
rewind waits for its answer, and never gives memory back; so waiting, reading, rewinding and closing are our own.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

import numpy as np

from tm_torchrl.game.client import Moment, Passed
from tm_torchrl.game.errors import CallRefused, GameError, GameGone, GameTimeout, ProtocolError
from tm_torchrl.game.state_layout import check_state, race_time_of, time_of_last
from tm_torchrl.game.tmi1.channel import MARK, Channel, checked_name, open_channel
from tm_torchrl.game.tmi1.messages import (
    ALREADY_REGISTERED,
    FIRST_OF_CLIENT,
    INPUTS,
    INT,
    LEAVE_STICK,
    NO_PLAYER,
    TWO_INTS,
    Kind,
)
from tm_torchrl.game.tmi1.state import read_state
from tm_torchrl.world.actions import TICK_MS, Inputs

SETUP = ("set unfocused_fps_limit false", "set autorewind false")
NO_KEYS = Inputs(gas=False, brake=False, left=False, right=False)
GOODBYE_S = 0.5  # that a game has to take note that we leave
INSTALL = "pip install 'tm_torchrl[tmi1]'"


class Place(Enum):
    """Where in the conversation we are."""

    CLOSED = "not connected"
    CONNECTING = "connecting"
    RUN_STEP = "a run step"


class TMInterface1Client:
    """Drives one game instance with TMInterface 1.x (1.4.3); see ``Client``. It has no pictures.

    The game stands still in a run step while we think. It calls us at every tick of 10 ms, so a decision of 50 ms takes
    seven messages there and back.

    Args:
        channel: of the game instance: ``TMInterface0`` for the first, up to 15.
        map_path: to load when connecting, as the game's ``map`` command takes it; ``None`` for the one that is open.
        timeout_s: of every call without one of its own.
        connect_timeout_s: of ``connect`` and ``load_map``, in which maps are loaded.
        hold_s: how long the game waits for us before it forgets us; longer than the longest pause in training.
        speed: of the game while it drives, times the race's own; above 100 the game loses inputs.
        setup: console commands on connecting.

    Examples:
        >>> client = TMInterface1Client(channel="TMInterface3")
        >>> client.has_frames, client.at(5).address
        (False, 'TMInterface5')
    """

    has_frames = False

    def __init__(
        self,
        *,
        channel: str = "TMInterface0",
        map_path: str | None = None,
        timeout_s: float = 10.0,
        connect_timeout_s: float = 60.0,
        hold_s: float = 600.0,
        speed: float = 80.0,
        setup: Sequence[str] = SETUP,
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("connect_timeout_s", connect_timeout_s), ("speed", speed)):
            if not value > 0:
                raise ValueError(f"{name}={value}: must be positive")
        if not 0.1 <= hold_s <= 2_000_000:
            raise ValueError(f"hold_s={hold_s}: 0.1 to 2000000 seconds wanted, which the game counts in ms")
        for command in setup:
            if not command.isascii():
                raise ValueError(f"setup: {command!r}: TMInterface 1.x takes ASCII only")
        self.channel = checked_name(channel)
        self.map_path = map_path
        self.timeout_s, self.connect_timeout_s, self.hold_s = timeout_s, connect_timeout_s, hold_s
        self.speed = speed
        self.setup = tuple(setup)
        self._interface: Any = None  # the package's, with our waiting
        self._memory: Channel | None = None
        self._place = Place.CLOSED
        self._deadline = 0.0
        self._time_ms = 0

    @property
    def address(self) -> str:
        """The channel's name."""
        return self.channel

    def at(self, address: int | str) -> TMInterface1Client:
        """An equal client of the instance at another channel, by its name or its number."""
        return TMInterface1Client(
            channel=address if isinstance(address, str) else f"TMInterface{address}",
            map_path=self.map_path,
            timeout_s=self.timeout_s,
            connect_timeout_s=self.connect_timeout_s,
            hold_s=self.hold_s,
            speed=self.speed,
            setup=self.setup,
        )

    @property
    def is_connected(self) -> bool:
        """Whether the game waits for us."""
        return self._place is Place.RUN_STEP

    @property
    def time_ms(self) -> int:
        """Race time where the game waits."""
        return self._time_ms

    def connect(self, *, timeout_s: float | None = None) -> None:
        """Register and set the game up; afterwards it waits in a run step."""
        if self._place is not Place.CLOSED:
            raise CallRefused(f"connect: the client is in {self._place.value}; close it first")
        with self._talking(timeout_s or self.connect_timeout_s):
            self._place = Place.CONNECTING
            self._memory = open_channel(self.channel, until=self._deadline)
            self._interface = _interface(self._memory, lambda: self._deadline)
            self._register()
            self._interface.set_timeout(round(1000 * self.hold_s))
            self._interface.set_speed(self.speed)
            for command in self.setup:
                self._interface.execute_command(command)
            if self.map_path is None:
                self._interface.give_up()
            else:
                self._interface.execute_command(f"map {_quoted(self.map_path)}")
            self._processed(Kind.ON_REGISTERED)
            self._await_start(is_before_start_enough=True)

    def load_map(self, path: str, *, timeout_s: float | None = None) -> None:
        """Change to another map."""
        self._require("load_map")
        with self._talking(timeout_s or self.connect_timeout_s):
            self.map_path = path
            self._interface.execute_command(f"map {_quoted(path)}")
            self._processed(Kind.ON_RUN_STEP)
            self._await_start(is_before_start_enough=True)

    def restart(self, *, timeout_s: float | None = None) -> Moment:
        """Give up, and wait for the start signal."""
        self._require("restart")
        with self._talking(timeout_s or self.connect_timeout_s):
            self._press(NO_KEYS)
            if self._time_ms >= 0:
                self._interface.give_up()
            self._processed(Kind.ON_RUN_STEP)
            self._await_start(is_before_start_enough=False)
            return Moment(self._read_state())

    def drive(self, inputs: Inputs, *, num_ticks: int, timeout_s: float | None = None) -> Moment:
        """Hold keys for some ticks of 10 ms."""
        self._require("drive")
        if num_ticks < 1:
            raise ValueError(f"num_ticks={num_ticks}: at least one tick can be driven")
        with self._talking(timeout_s or self.timeout_s):
            target = self._time_ms + TICK_MS * num_ticks
            self._press(inputs)
            passed: list[Passed] = []
            while True:
                self._processed(Kind.ON_RUN_STEP)
                self._next_run_step(passed)
                if self._time_ms >= target:
                    break
            is_finished = bool(passed) and passed[-1].count == passed[-1].total
            if self._time_ms > target and not is_finished:
                raise ProtocolError(f"the race is at {self._time_ms} ms, {target} ms were expected: its clock jumped")
            return Moment(self._read_state(), tuple(passed))

    def rewind(self, state: bytes, *, timeout_s: float | None = None) -> None:
        """Go back to a state."""
        self._require("rewind")
        check_state(state)
        with self._talking(timeout_s or self.timeout_s):
            # Not the package's rewind_to_state, which calls callbacks before the answer is there.
            self._ask(Kind.REWIND, state)
            self._time_ms = race_time_of(state)

    def frame(self, *, width: int, height: int, timeout_s: float | None = None) -> np.ndarray:
        """Always refused."""
        raise CallRefused("frame: TMInterface 1.x has no pictures; TMInterface2Client has, or drive by floats alone")

    def close(self) -> None:
        """Let the game go on at its own speed, and leave."""
        if self._place is Place.RUN_STEP and self._memory is not None:
            with contextlib.suppress(GameError):
                self._deadline = time.monotonic() + 2 * GOODBYE_S
                self._interface.set_speed(1.0)
                self._memory.write(Kind.DEREGISTER, INT.pack(0))
                self._memory.wait(lambda header: header == 0, until=time.monotonic() + GOODBYE_S, what="good-bye")
        self._disconnect()

    # ------------------------------------------------------------------ the conversation

    @contextlib.contextmanager
    def _talking(self, timeout_s: float) -> Iterator[None]:
        """Bounds a call in time; after an error nobody knows who speaks next, so the connection is given up."""
        self._deadline = time.monotonic() + timeout_s
        try:
            yield
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._memory is not None:
            self._memory.close()
        self._memory = self._interface = None
        self._place = Place.CLOSED

    def _require(self, call: str) -> None:
        if self._place is not Place.RUN_STEP:
            raise CallRefused(f"{call}: the client is {self._place.value}; connect it first")

    def _register(self) -> None:
        """Introduce ourselves; a client that was here before is taken leave of."""
        assert self._memory is not None
        for _ in range(2):
            self._memory.write(Kind.REGISTER)
            try:
                self._wait_for_response()
            except GameTimeout as error:
                raise GameTimeout(
                    f"{error}: nobody registers us at {self.channel}. Does a game with TMInterface 1.x run? 2.x does "
                    "not know this channel (use game=tmi2)" + (_WINDOWS_HINT if sys.platform == "win32" else "")
                ) from None
            error_code = self._memory.error
            self._memory.clear()
            if error_code != ALREADY_REGISTERED:
                break
            self._memory.write(Kind.DEREGISTER, INT.pack(0))
            self._memory.wait(lambda header: header == 0, until=self._deadline, what="leave of an earlier client")
        while self._next_call() != Kind.ON_REGISTERED:
            self._processed(self._memory.kind)

    def _next_call(self) -> int:
        """The kind of the game's next call."""
        assert self._memory is not None
        header = self._memory.wait(_is_call, until=self._deadline, what="the game's next step")
        kind = header & 0xFF
        if kind == Kind.SHUTDOWN:
            raise GameGone(f"{self.channel}: the game was closed")
        if time.monotonic() >= self._deadline:  # it calls and calls, and never about what is waited for
            raise GameTimeout(f"{self.channel}: the step that was waited for did not come in time")
        return kind

    def _next_run_step(self, passed: list[Passed]) -> None:
        """Take calls up to the next run step; checkpoints on the way are added to ``passed``."""
        assert self._memory is not None
        while (kind := self._next_call()) != Kind.ON_RUN_STEP:
            if kind == Kind.ON_CHECKPOINT:
                count, total = TWO_INTS.unpack(self._memory.read(TWO_INTS.size))
                if not 0 < count <= total:
                    raise ProtocolError(f"checkpoint {count} of {total}: there is none such")
                passed.append(Passed(count, total, time_of_last(self._read_state())))
                if count == total:
                    self._interface.prevent_simulation_finish()
            elif kind not in _PASSED_OVER:
                raise ProtocolError(f"call {kind} came where a run step or a checkpoint was expected")
            self._processed(kind)
        (self._time_ms,) = INT.unpack(self._memory.read(INT.size))
        self._place = Place.RUN_STEP

    def _await_start(self, *, is_before_start_enough: bool) -> None:
        """Play through whatever comes until the countdown, or its end."""
        is_countdown = False
        try:
            while True:
                self._next_run_step([])
                is_countdown = is_countdown or self._time_ms < 0
                if self._time_ms == 0 or (is_before_start_enough and is_countdown):
                    return
                if is_countdown and self._time_ms > 0:
                    raise ProtocolError(f"the race is at {self._time_ms} ms, its start was missed")
                self._processed(Kind.ON_RUN_STEP)
        except GameTimeout as error:
            where = "the open map" if self.map_path is None else f"map {self.map_path!r}"
            raise GameTimeout(
                f"{where} did not start: {error}. Does the game stand in its menus, or is a dialog open? Is the map in "
                "its Challenges folder?"
            ) from error

    def _press(self, inputs: Inputs) -> None:
        """Keys alone; the package would ask for the game's mode first, which takes as long again."""
        keys = (int(inputs.left), int(inputs.right), int(inputs.gas), int(inputs.brake))
        self._ask(Kind.SET_INPUTS, INPUTS.pack(*keys, LEAVE_STICK, LEAVE_STICK))

    def _ask(self, kind: Kind, content: bytes) -> None:
        assert self._memory is not None
        self._memory.write(kind, content)
        self._wait_for_response()
        self._memory.clear()

    def _read_state(self) -> bytes:
        assert self._memory is not None
        memory = self._memory
        memory.write(Kind.GET_STATE)
        self._wait_for_response()
        if memory.error == NO_PLAYER:
            raise ProtocolError(f"{self.channel}: the game has no state to give; it stands in its menus or loads a map")
        state = read_state(memory)
        memory.clear()
        return state

    def _processed(self, kind: int) -> None:
        assert self._memory is not None
        self._memory.write(Kind.PROCESSED_CALL, INT.pack(kind))

    def _wait_for_response(self) -> None:
        assert self._memory is not None
        self._memory.wait(_is_response, until=self._deadline, what="an answer")


_PASSED_OVER = (
    Kind.ON_REGISTERED,
    Kind.ON_LAP,
    Kind.ON_CUSTOM_COMMAND,
    Kind.ON_SIM_BEGIN,
    Kind.ON_SIM_STEP,
    Kind.ON_SIM_END,
)
_WINDOWS_HINT = ". Windows makes a channel for whoever asks, so a wrong name shows only by this silence"


def _is_response(header: int) -> bool:
    return header == Kind.RESPONSE | MARK


def _is_call(header: int) -> bool:
    return header & MARK == MARK and Kind.RESPONSE < header & 0xFF < FIRST_OF_CLIENT


def _interface(memory: Channel, deadline: Any) -> Any:
    """The package's interface over our memory: its requests, with a deadline on every answer."""
    try:
        from tminterface.interface import TMInterface
    except ImportError as error:
        raise GameError(
            f"TMInterface 1.x is spoken with the package tminterface, which is missing: {INSTALL}"
        ) from error

    class Interface(TMInterface):
        """Sends what it always sends, and waits as we do; no thread of its own is ever started."""

        def __init__(self) -> None:
            super().__init__(server_name=memory.name, buffer_size=memory.size)
            self.mfile = memory.memory

        def _wait_for_server_response(self, clear: bool = True) -> None:
            memory.wait(_is_response, until=deadline(), what="an answer")
            if clear:
                memory.clear()

        def _clear_buffer(self) -> None:
            memory.clear()

    return Interface()


def _quoted(path: str) -> str:
    """As the game's console takes it."""
    return f'"{path}"' if " " in path else path
