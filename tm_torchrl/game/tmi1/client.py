"""The client of TMInterface 1.x: shared memory, through the community's package ``tminterface``.

The package is GPL-3; it is imported only here, when a client connects. It has no deadlines, calls its user's code while
a rewind waits for its answer, and never frees the shared memory; therefore waiting, reading, rewinding and closing are
implemented here.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tm_torchrl.game.client import PassedCheckpoint
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
from tm_torchrl.game.tminterface_client import NO_KEYS, Stage, TMInterfaceClient, check_checkpoint, map_command
from tm_torchrl.world.actions import Inputs

SETUP = ("set unfocused_fps_limit false", "set autorewind false")
GOODBYE_S = 0.5  # how long ``close`` waits for the game's answer
INSTALL = "pip install 'tm_torchrl[tmi1]'"
_IGNORED_CALLS = (
    Kind.ON_REGISTERED,
    Kind.ON_LAP,
    Kind.ON_CUSTOM_COMMAND,
    Kind.ON_SIM_BEGIN,
    Kind.ON_SIM_STEP,
    Kind.ON_SIM_END,
)
_WINDOWS_HINT = ". Windows creates any channel that is asked for, so this silence is the only sign of a wrong name"


@dataclass(kw_only=True, eq=False)
class TMInterface1Client(TMInterfaceClient):
    """Drives one game instance with TMInterface 1.x (1.4.3); see ``Client``. It has no pictures.

    The game calls the client at every tick of 10 ms, so a decision of 50 ms takes seven round trips. The constructor's
    further arguments are those of ``TMInterfaceClient``; above ``speed=100`` the game loses inputs.

    Args:
        channel: Channel of the game instance: ``TMInterface0`` for the first, up to ``TMInterface15``.

    Examples:
        >>> client = TMInterface1Client(channel="TMInterface3")
        >>> client.has_frames, client.at(5).address
        (False, 'TMInterface5')
    """

    has_frames = False
    max_hold_s = 2_000_000

    channel: str = "TMInterface0"
    setup: Sequence[str] = SETUP

    def __post_init__(self) -> None:
        super().__post_init__()
        for command in self.setup:
            if not command.isascii():
                raise ValueError(f"setup: {command!r}: must be ASCII for TMInterface 1.x")
        checked_name(self.channel)
        self._interface: Any = None  # the package's, with our waiting
        self._memory: Channel | None = None
        self._deadline = 0.0

    @property
    def address(self) -> str:
        """The channel's name."""
        return self.channel

    def at(self, address: int | str) -> TMInterface1Client:
        """A client with the same settings for the instance at another channel, given by name or number."""
        channel = address if isinstance(address, str) else f"TMInterface{address}"
        return TMInterface1Client(channel=channel, **self._shared_settings())

    def rewind(self, state: bytes, *, timeout_s: float | None = None) -> None:
        """Go back to a state."""
        self._require_connection("rewind")
        check_state(state)
        with self._call(timeout_s or self.timeout_s):
            # Not the package's rewind_to_state, which calls callbacks before the answer is there.
            self._request(Kind.REWIND, state)
            self._time_ms = race_time_of(state)

    def frame(self, *, width: int, height: int, timeout_s: float | None = None) -> np.ndarray:
        """Always refused."""
        raise CallRefused(
            "frame: TMInterface 1.x has no pictures; use TMInterface2Client, or train on the float vector alone"
        )

    def close(self) -> None:
        """Let the game go on at its own speed, and disconnect."""
        if self.is_connected and self._memory is not None:
            with contextlib.suppress(GameError):
                self._deadline = time.monotonic() + 2 * GOODBYE_S
                self._interface.set_speed(1.0)
                self._memory.write(Kind.DEREGISTER, INT.pack(0))
                self._memory.wait(lambda header: header == 0, until=time.monotonic() + GOODBYE_S, what="good-bye")
        self._disconnect()

    # ------------------------------------------------------------------ the steps of a race

    def _set_deadline(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s

    def _open(self) -> None:
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
            self._interface.execute_command(map_command(self.map_path))
        self._processed(Kind.ON_REGISTERED)
        self._wait_for_start(is_countdown_enough=True)

    def _disconnect(self) -> None:
        if self._memory is not None:
            self._memory.close()
        self._memory = self._interface = None
        self._stage = Stage.CLOSED

    def _change_map(self, path: str) -> None:
        self._interface.execute_command(map_command(path))
        self._go_on()

    def _begin_race(self) -> None:
        self._press(NO_KEYS)
        if self._time_ms >= 0:
            self._interface.give_up()
        self._go_on()

    def _go_on_with(self, inputs: Inputs, *, target_ms: int) -> None:
        self._press(inputs)
        self._go_on()

    def _go_on(self) -> None:
        self._processed(Kind.ON_RUN_STEP)

    def _next_run_step(self, passed: list[PassedCheckpoint]) -> None:
        while (kind := self._next_call()) != Kind.ON_RUN_STEP:
            if kind == Kind.ON_CHECKPOINT:
                count, total = TWO_INTS.unpack(self._channel.read(TWO_INTS.size))
                check_checkpoint(count, total)
                passed.append(PassedCheckpoint(count, total, time_of_last(self._present_state())))
                if count == total:
                    self._interface.prevent_simulation_finish()
            elif kind not in _IGNORED_CALLS:
                raise ProtocolError(f"call {kind} came where a run step or a checkpoint was expected")
            self._processed(kind)
        (self._time_ms,) = INT.unpack(self._channel.read(INT.size))
        self._stage = Stage.RUN_STEP

    def _present_state(self) -> bytes:
        memory = self._channel
        memory.write(Kind.GET_STATE)
        self._wait_for_response()
        if memory.error == NO_PLAYER:
            raise ProtocolError(f"{self.channel}: the game has no state; it shows its menus or loads a map")
        state = read_state(memory)
        memory.clear()
        return state

    # ------------------------------------------------------------------ single messages

    @property
    def _channel(self) -> Channel:
        assert self._memory is not None
        return self._memory

    def _register(self) -> None:
        """Register at the game; if an earlier client is still registered, deregister it first."""
        for _ in range(2):
            self._channel.write(Kind.REGISTER)
            try:
                self._wait_for_response()
            except GameTimeout as error:
                raise GameTimeout(
                    f"{error}: nothing answers the registration at {self.channel}. Is a game with TMInterface 1.x "
                    "running? TMInterface 2.x does not have this channel (use game=tmi2)"
                    + (_WINDOWS_HINT if sys.platform == "win32" else "")
                ) from None
            error_code = self._channel.error
            self._channel.clear()
            if error_code != ALREADY_REGISTERED:
                break
            self._channel.write(Kind.DEREGISTER, INT.pack(0))
            self._channel.wait(
                lambda header: header == 0, until=self._deadline, what="the deregistration of an earlier client"
            )
        while self._next_call() != Kind.ON_REGISTERED:
            self._processed(self._channel.kind)

    def _next_call(self) -> int:
        """The kind of the game's next call."""
        header = self._channel.wait(_is_call, until=self._deadline, what="the game's next step")
        kind = header & 0xFF
        if kind == Kind.SHUTDOWN:
            raise GameGone(f"{self.channel}: the game was closed")
        if time.monotonic() >= self._deadline:  # calls keep coming, but never the awaited one
            raise GameTimeout(f"{self.channel}: the awaited run step did not come in time")
        return kind

    def _press(self, inputs: Inputs) -> None:
        """Set the keys alone; the package would first ask for the game's mode, which takes as long again."""
        keys = (int(inputs.left), int(inputs.right), int(inputs.gas), int(inputs.brake))
        self._request(Kind.SET_INPUTS, INPUTS.pack(*keys, LEAVE_STICK, LEAVE_STICK))

    def _request(self, kind: Kind, content: bytes) -> None:
        self._channel.write(kind, content)
        self._wait_for_response()
        self._channel.clear()

    def _processed(self, kind: int) -> None:
        self._channel.write(Kind.PROCESSED_CALL, INT.pack(kind))

    def _wait_for_response(self) -> None:
        self._channel.wait(_is_response, until=self._deadline, what="an answer")


def _is_response(header: int) -> bool:
    return header == Kind.RESPONSE | MARK


def _is_call(header: int) -> bool:
    return header & MARK == MARK and Kind.RESPONSE < header & 0xFF < FIRST_OF_CLIENT


def _interface(memory: Channel, deadline: Any) -> Any:
    """The package's interface over our memory: its requests, with a deadline on every answer."""
    try:
        from tminterface.interface import TMInterface
    except ImportError as error:
        raise GameError(f"TMInterface 1.x needs the package tminterface, which is not installed: {INSTALL}") from error

    class Interface(TMInterface):
        """Sends the package's messages, but waits with a deadline and starts no thread."""

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
