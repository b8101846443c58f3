"""The client of TMInterface 2.x: TCP to the link plugin inside the game."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from enum import Enum

import numpy as np

from tm_torchrl.game.client import Moment, Passed
from tm_torchrl.game.errors import CallRefused, GameError, GameTimeout, ProtocolError
from tm_torchrl.game.state_layout import (
    check_state,
    head_of,
    is_finished,
    race_time_of,
    taken_back,
    time_of_last,
)
from tm_torchrl.game.tmi2.connection import Link
from tm_torchrl.game.tmi2.messages import (
    DEFAULT_PORT,
    INT,
    SETUP,
    TWO_INTS,
    Message,
    execute,
    load_map,
    request,
    request_frame,
    request_number,
    rewind_to,
    set_inputs,
    set_speed,
    without_finish,
)
from tm_torchrl.game.tmi2.picture import grey_of
from tm_torchrl.world.actions import TICK_MS, Inputs

MAX_STATE_BYTES = 1 << 22
NO_KEYS = Inputs(gas=False, brake=False, left=False, right=False)


class Place(Enum):
    """Where in the conversation we are: what the game waits in."""

    CLOSED = "not connected"
    CONNECTING = "connecting"
    RUN_STEP = "a run step"
    FRAME = "a picture"


_ECHO = {Place.RUN_STEP: request(Message.RUN_STEP), Place.FRAME: request(Message.FRAME)}


class TMInterface2Client:
    """Drives one game instance with TMInterface 2.x and its link plugin; see ``Client``.

    The game stands still in a run step while we think, or, once a picture was taken, in that picture. Finishes are kept
    from ending the race: the last checkpoint's time is taken out of the state before the game goes on.

    Args:
        port: of the game instance, the plugin's ``custom_port``.
        host: where it runs.
        map_path: to load when connecting, as the game's ``map`` command takes it; ``None`` for the one that is open.
        timeout_s: of every call without one of its own.
        connect_timeout_s: of ``connect`` and ``load_map``, in which maps are loaded.
        hold_s: how long the game waits for us before it drops us; longer than the longest pause in training.
        speed: of the game while it drives, times the race's own.
        setup: console commands on connecting.
        camera: the game's camera; 2 is near and behind.
    """

    has_frames = True

    def __init__(
        self,
        *,
        port: int = DEFAULT_PORT,
        host: str = "127.0.0.1",
        map_path: str | None = None,
        timeout_s: float = 10.0,
        connect_timeout_s: float = 60.0,
        hold_s: float = 600.0,
        speed: float = 80.0,
        setup: Sequence[str] = SETUP,
        camera: int = 2,
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("connect_timeout_s", connect_timeout_s), ("speed", speed)):
            if not value > 0:
                raise ValueError(f"{name}={value}: must be positive")
        if not 0.1 <= hold_s <= 4_000_000:
            raise ValueError(f"hold_s={hold_s}: 0.1 to 4000000 seconds wanted, which the plugin counts in ms")
        self.map_path = map_path
        self.timeout_s, self.connect_timeout_s, self.hold_s = timeout_s, connect_timeout_s, hold_s
        self.speed = speed
        self.setup = tuple(setup)
        self.camera = camera
        self._link = Link(host, port, poll_s=min(0.02, timeout_s / 4))
        self._place = Place.CLOSED
        self._time_ms = 0
        self._period_ms = 0
        self._picture: tuple[int, int, np.ndarray] | None = None  # of the present moment

    @property
    def address(self) -> int:
        """The port."""
        return self._link.port

    def at(self, address: int | str) -> TMInterface2Client:
        """An equal client of the instance at another port."""
        if not isinstance(address, int):
            raise ValueError(f"address={address!r}: TMInterface 2.x listens at a port, a whole number")
        return TMInterface2Client(
            port=address,
            host=self._link.host,
            map_path=self.map_path,
            timeout_s=self.timeout_s,
            connect_timeout_s=self.connect_timeout_s,
            hold_s=self.hold_s,
            speed=self.speed,
            setup=self.setup,
            camera=self.camera,
        )

    @property
    def is_connected(self) -> bool:
        """Whether the game waits for us."""
        return self._place in _ECHO

    @property
    def time_ms(self) -> int:
        """Race time where the game waits."""
        return self._time_ms

    # ------------------------------------------------------------------ connecting

    def connect(self, *, timeout_s: float | None = None) -> None:
        """Connect and set the game up; afterwards it waits in a run step."""
        if self._place is not Place.CLOSED:
            raise CallRefused(f"connect: the client is in {self._place.value}; close it first")
        with self._talking(timeout_s or self.connect_timeout_s):
            self._link.open()
            self._place = Place.CONNECTING
            message = self._link.read(INT)[0]
            if message != Message.ON_CONNECT:
                raise ProtocolError(
                    f"{self._link.host}:{self.address} greets with {message}, not with {Message.ON_CONNECT.value}: "
                    "another program listens there, or the plugin is of another version"
                )
            self._link.send(
                request_number(Message.SET_TIMEOUT, round(1000 * self.hold_s))
                + set_speed(self.speed)
                + request_number(Message.SET_STEP_PERIOD, TICK_MS * 5)
                + b"".join(execute(command) for command in (*self.setup, f"set countdown_speed {self.speed:g}"))
                + request(Message.IS_IN_MENUS)
            )
            self._period_ms = TICK_MS * 5
            is_in_menus = bool(self._link.read(INT)[0])
            if is_in_menus and self.map_path is None:
                raise GameError(
                    f"the game at port {self.address} stands in its menus: open a map in it, or give map_path"
                )
            begin = request(Message.GIVE_UP) if self.map_path is None else load_map(self.map_path)
            self._link.send(begin + request(Message.ON_CONNECT))
            self._await_start(is_before_start_enough=True)
            self._link.send(execute(f"cam {self.camera}") + request_number(Message.TOGGLE_INTERFACE, 0))

    def load_map(self, path: str, *, timeout_s: float | None = None) -> None:
        """Change to another map."""
        self._require("load_map")
        with self._talking(timeout_s or self.connect_timeout_s):
            self.map_path = path
            self._go_on(load_map(path))
            self._await_start(is_before_start_enough=True)

    def close(self) -> None:
        """Let the game go on at its own speed, and disconnect."""
        if self.is_connected:
            self._link.allow(1.0)
            with contextlib.suppress(GameError):
                self._link.send(set_speed(1.0) + request(Message.SHUTDOWN))
        self._disconnect()

    # ------------------------------------------------------------------ driving

    def restart(self, *, timeout_s: float | None = None) -> Moment:
        """Give up, and wait for the start signal."""
        self._require("restart")
        with self._talking(timeout_s or self.connect_timeout_s):
            is_fresh = self._time_ms < 0
            self._go_on(set_inputs(NO_KEYS) + (b"" if is_fresh else request(Message.GIVE_UP)))
            return self._await_start(is_before_start_enough=False)

    def drive(self, inputs: Inputs, *, num_ticks: int, timeout_s: float | None = None) -> Moment:
        """Hold keys for some ticks of 10 ms."""
        self._require("drive")
        if num_ticks < 1:
            raise ValueError(f"num_ticks={num_ticks}: at least one tick can be driven")
        with self._talking(timeout_s or self.timeout_s):
            target = self._time_ms + TICK_MS * num_ticks
            period = TICK_MS * num_ticks if target % (TICK_MS * num_ticks) == 0 else TICK_MS
            self._go_on(self._with_period(period) + set_inputs(inputs))
            passed: list[Passed] = []
            while True:
                state = self._next_run_step(passed)
                if self._time_ms >= target:
                    break
                self._go_on()
            is_finished = bool(passed) and passed[-1].count == passed[-1].total
            if self._time_ms > target and not is_finished:
                raise ProtocolError(f"the race is at {self._time_ms} ms, {target} ms were expected: its clock jumped")
            return Moment(state, tuple(passed))

    def rewind(self, state: bytes, *, timeout_s: float | None = None) -> None:
        """Go back to a state."""
        self._require("rewind")
        check_state(state)
        with self._talking(timeout_s or self.timeout_s):
            if self._place is Place.FRAME:  # no picture can be asked for in a picture: play on to a run step
                self._go_on(rewind_to(state) + self._with_period(TICK_MS))
                self._next_run_step([])
            self._link.send(rewind_to(state))
            self._time_ms = race_time_of(state)

    def frame(self, *, width: int, height: int, timeout_s: float | None = None) -> np.ndarray:
        """The picture of this moment, grey."""
        self._require("frame")
        if not (0 < width <= 4096 and 0 < height <= 4096):
            raise ValueError(f"width={width}, height={height}: 1 to 4096 pixels wanted")
        if self._picture is not None and self._picture[:2] == (width, height):
            return self._picture[2]
        if self._place is Place.FRAME:
            raise CallRefused("frame: the game gives one picture of a moment, and there is one of another size")
        with self._talking(timeout_s or self.timeout_s):
            self._link.send(
                request(Message.REWIND_TO_CURRENT)  # settles the moment before the game is frozen in it
                + set_speed(0.0)
                + request_frame(width, height)
                + request(Message.RUN_STEP)
            )
            message = self._link.read(INT)[0]
            if message != Message.FRAME:
                raise ProtocolError(f"message {message} came where a picture ({Message.FRAME.value}) was asked for")
            picture = grey_of(self._link.read_bytes(width * height * 4), width=width, height=height)
            self._place = Place.FRAME
            self._picture = (width, height, picture)
            return picture

    # ------------------------------------------------------------------ further requests

    def state(self, *, timeout_s: float | None = None) -> bytes:
        """The state of this moment."""
        self._require("state")
        with self._talking(timeout_s or self.timeout_s):
            self._link.send(request(Message.GET_STATE))
            return self._read_state()

    def inputs_text(self, *, timeout_s: float | None = None) -> str:
        """The keys of the race so far, as a TMInterface script."""
        self._require("inputs_text")
        with self._talking(timeout_s or self.timeout_s):
            self._link.send(request(Message.GET_INPUTS))
            return self._read_sized("a script").decode(errors="replace")

    def is_finished(self, *, timeout_s: float | None = None) -> bool:
        """Whether the game holds the race for finished."""
        return self._ask(Message.IS_FINISHED, timeout_s)

    def is_in_menus(self, *, timeout_s: float | None = None) -> bool:
        """Whether the game shows its menus."""
        return self._ask(Message.IS_IN_MENUS, timeout_s)

    def execute(self, command: str, *, timeout_s: float | None = None) -> None:
        """Run a line of the game's console."""
        self._tell("execute", execute(command), timeout_s)

    def prevent_finish(self, *, timeout_s: float | None = None) -> None:
        """Ask the game to go on behind the finish."""
        self._tell("prevent_finish", request(Message.PREVENT_FINISH), timeout_s)

    def reset_camera(self, *, timeout_s: float | None = None) -> None:
        """Put the camera behind the car."""
        self._tell("reset_camera", request(Message.RESET_CAMERA), timeout_s)

    def unrequest_frame(self, *, timeout_s: float | None = None) -> None:
        """Withdraw a picture that was asked for."""
        self._tell("unrequest_frame", request(Message.UNREQUEST_FRAME), timeout_s)

    def toggle_interface(self, is_shown: bool, *, timeout_s: float | None = None) -> None:
        """Show or hide TMInterface's own windows."""
        self._tell("toggle_interface", request_number(Message.TOGGLE_INTERFACE, int(is_shown)), timeout_s)

    # ------------------------------------------------------------------ the conversation

    @contextlib.contextmanager
    def _talking(self, timeout_s: float) -> Iterator[None]:
        """Bounds a call in time; after an error the stream may be out of step, and is given up."""
        self._link.allow(timeout_s)
        try:
            yield
        except BaseException:  # an interrupt in the middle of a message leaves it out of step too
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        self._link.close()
        self._place = Place.CLOSED
        self._picture = None

    def _require(self, call: str) -> None:
        if self._place not in _ECHO:
            raise CallRefused(f"{call}: the client is {self._place.value}; connect it first")

    def _with_period(self, period_ms: int) -> bytes:
        if period_ms == self._period_ms:
            return b""
        self._period_ms = period_ms
        return request_number(Message.SET_STEP_PERIOD, period_ms)

    def _go_on(self, before: bytes = b"") -> None:
        """Let the game play on; the state of wherever it stops next is asked for in the same breath."""
        thaw = set_speed(self.speed) if self._place is Place.FRAME else b""
        self._picture = None
        self._link.send(before + thaw + _ECHO[self._place] + request(Message.GET_STATE))

    def _next_run_step(self, passed: list[Passed]) -> bytes:
        """Take messages up to the next run step, and its state; checkpoints on the way are added to ``passed``."""
        while True:
            self._link.check_time("reach the step that was waited for")
            message = self._link.read(INT)[0]
            if message == Message.RUN_STEP:
                self._time_ms = self._link.read(INT)[0]
                self._place = Place.RUN_STEP
                state = self._read_state()
                if is_finished(state):  # without its message: the clock would stand until the finish is taken back
                    total = int(head_of(state)["checkpoint_count"])
                    passed.append(Passed(total, total, time_of_last(state)))
                    self._link.send(without_finish(state))
                    state = bytes(taken_back(state))
                return state
            if message not in (Message.CHECKPOINT, Message.LAP):
                raise ProtocolError(f"message {message} came where a run step or a checkpoint was expected")
            count, total = self._link.read(TWO_INTS)
            state = self._read_state()
            prevent = b""
            if message == Message.CHECKPOINT:
                if not 0 < count <= total:
                    raise ProtocolError(f"checkpoint {count} of {total}: there is none such")
                passed.append(Passed(count, total, time_of_last(state)))
                if count == total:
                    prevent = without_finish(state)
            self._link.send(prevent + request(Message(message)) + request(Message.GET_STATE))

    def _await_start(self, *, is_before_start_enough: bool) -> Moment:
        """Play through whatever comes until the countdown, or its end."""
        if self._place is Place.CONNECTING:
            self._link.send(request(Message.GET_STATE))
            self._place = Place.RUN_STEP
        is_countdown = False
        try:
            while True:
                state = self._next_run_step([])
                is_countdown = is_countdown or self._time_ms < 0
                if self._time_ms == 0 or (is_before_start_enough and is_countdown):
                    return Moment(state)
                if is_countdown and self._time_ms > 0:
                    raise ProtocolError(f"the race is at {self._time_ms} ms, its start was missed")
                self._go_on()
        except GameTimeout as error:
            where = "the open map" if self.map_path is None else f"map {self.map_path!r}"
            raise GameTimeout(
                f"{where} did not start: {error}. Is the map in the game's Challenges folder, and no dialog open?"
            ) from error

    def _read_sized(self, what: str) -> bytes:
        length = self._link.read(INT)[0]
        if not 0 <= length <= MAX_STATE_BYTES:
            raise ProtocolError(f"{what} of {length} bytes is announced: out of step")
        return self._link.read_bytes(length)

    def _read_state(self) -> bytes:
        state = self._read_sized("a state")
        check_state(state)
        return state

    def _ask(self, message: Message, timeout_s: float | None) -> bool:
        self._require(message.name.lower())
        with self._talking(timeout_s or self.timeout_s):
            self._link.send(request(message))
            answer = self._link.read(INT)[0]
            if answer not in (0, 1):
                raise ProtocolError(f"{message.name} was answered by {answer}: out of step")
            return bool(answer)

    def _tell(self, call: str, content: bytes, timeout_s: float | None) -> None:
        self._require(call)
        with self._talking(timeout_s or self.timeout_s):
            self._link.send(content)
