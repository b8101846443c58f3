"""The client of TMInterface 2.x: TCP to the link plugin inside the game."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tm_torchrl.game.client import PassedCheckpoint
from tm_torchrl.game.errors import CallRefused, GameError, ProtocolError
from tm_torchrl.game.state_layout import (
    check_state,
    head_of,
    is_finished,
    race_time_of,
    time_of_last,
    without_last_checkpoint,
)
from tm_torchrl.game.tmi2.connection import Connection
from tm_torchrl.game.tmi2.messages import (
    DEFAULT_PORT,
    INT,
    SETUP,
    TWO_INTS,
    Message,
    execute,
    prevent_finish_at,
    request,
    request_frame,
    request_number,
    rewind_to,
    set_inputs,
    set_speed,
)
from tm_torchrl.game.tmi2.picture import grey_of
from tm_torchrl.game.tminterface_client import NO_KEYS, Stage, TMInterfaceClient, check_checkpoint, map_command
from tm_torchrl.world.actions import TICK_MS, Inputs

MAX_STATE_BYTES = 1 << 22
_ECHO = {Stage.RUN_STEP: request(Message.RUN_STEP), Stage.FRAME: request(Message.FRAME)}


@dataclass(kw_only=True, eq=False)
class TMInterface2Client(TMInterfaceClient):
    """Drives one game instance with TMInterface 2.x and its link plugin; see ``Client``.

    Between calls the game waits in a run step, or, after a picture was taken, in that picture. A finish does not end
    the race: the last checkpoint's time is removed from the state before the game goes on. The constructor's further
    arguments are those of ``TMInterfaceClient``.

    Args:
        port: Port of the game instance, the plugin's ``custom_port``.
        host: Host that the game runs on.
        camera: The game's camera; 2 is near and behind the car.
    """

    has_frames = True
    max_hold_s = 4_000_000

    port: int = DEFAULT_PORT
    host: str = "127.0.0.1"
    setup: Sequence[str] = SETUP
    camera: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._connection = Connection(self.host, self.port, poll_s=min(0.02, self.timeout_s / 4))
        self._period_ms = 0
        self._state = b""
        self._picture: tuple[int, int, np.ndarray] | None = None  # where the game waits

    @property
    def address(self) -> int:
        """The port."""
        return self.port

    def at(self, address: int | str) -> TMInterface2Client:
        """A client with the same settings for the instance at another port."""
        if not isinstance(address, int):
            raise ValueError(f"address={address!r}: must be a port, a whole number, for TMInterface 2.x")
        return TMInterface2Client(port=address, host=self.host, camera=self.camera, **self._shared_settings())

    def close(self) -> None:
        """Let the game go on at its own speed, and disconnect."""
        if self.is_connected:
            self._connection.set_deadline(1.0)
            with contextlib.suppress(GameError):
                self._connection.send(set_speed(1.0) + request(Message.SHUTDOWN))
        self._disconnect()

    def rewind(self, state: bytes, *, timeout_s: float | None = None) -> None:
        """Go back to a state."""
        self._require_connection("rewind")
        check_state(state)
        with self._call(timeout_s or self.timeout_s):
            if self._stage is Stage.FRAME:  # the next picture can only be requested from a run step: play on to one
                self._send_and_go_on(rewind_to(state) + self._with_period(TICK_MS))
                self._next_run_step([])
            self._connection.send(rewind_to(state))
            self._time_ms = race_time_of(state)

    def frame(self, *, width: int, height: int, timeout_s: float | None = None) -> np.ndarray:
        """The picture where the game waits, in grey."""
        self._require_connection("frame")
        if not (0 < width <= 4096 and 0 < height <= 4096):
            raise ValueError(f"width={width}, height={height}: must be 1 to 4096 pixels")
        if self._picture is not None and self._picture[:2] == (width, height):
            return self._picture[2]
        if self._stage is Stage.FRAME:
            raise CallRefused("frame: the game gives one picture per step, and one of another size was already taken")
        with self._call(timeout_s or self.timeout_s):
            self._connection.send(
                request(Message.REWIND_TO_CURRENT)  # settles the state before the game is frozen in it
                + set_speed(0.0)
                + request_frame(width, height)
                + request(Message.RUN_STEP)
            )
            message = self._connection.read(INT)[0]
            if message != Message.FRAME:
                raise ProtocolError(f"message {message} came where a picture ({Message.FRAME.value}) was requested")
            picture = grey_of(self._connection.read_bytes(width * height * 4), width=width, height=height)
            self._stage = Stage.FRAME
            self._picture = (width, height, picture)
            return picture

    # ------------------------------------------------------------------ further requests

    def state(self, *, timeout_s: float | None = None) -> bytes:
        """The state where the game waits."""
        self._require_connection("state")
        with self._call(timeout_s or self.timeout_s):
            self._connection.send(request(Message.GET_STATE))
            return self._read_state()

    def inputs_text(self, *, timeout_s: float | None = None) -> str:
        """The keys of the race so far, as a TMInterface script."""
        self._require_connection("inputs_text")
        with self._call(timeout_s or self.timeout_s):
            self._connection.send(request(Message.GET_INPUTS))
            return self._read_sized("a script").decode(errors="replace")

    def is_finished(self, *, timeout_s: float | None = None) -> bool:
        """Whether the game considers the race finished."""
        return self._ask(Message.IS_FINISHED, timeout_s)

    def is_in_menus(self, *, timeout_s: float | None = None) -> bool:
        """Whether the game shows its menus."""
        return self._ask(Message.IS_IN_MENUS, timeout_s)

    def execute(self, command: str, *, timeout_s: float | None = None) -> None:
        """Run a line of the game's console."""
        self._require_connection("execute")
        with self._call(timeout_s or self.timeout_s):
            self._connection.send(execute(command))

    def _ask(self, message: Message, timeout_s: float | None) -> bool:
        self._require_connection(message.name.lower())
        with self._call(timeout_s or self.timeout_s):
            self._connection.send(request(message))
            answer = self._connection.read(INT)[0]
            if answer not in (0, 1):
                raise ProtocolError(f"{message.name} was answered by {answer}: the stream is out of step")
            return bool(answer)

    # ------------------------------------------------------------------ the steps of a race

    def _set_deadline(self, timeout_s: float) -> None:
        self._connection.set_deadline(timeout_s)

    def _open(self) -> None:
        self._connection.open()
        message = self._connection.read(INT)[0]
        if message != Message.ON_CONNECT:
            raise ProtocolError(
                f"{self.host}:{self.port} greets with {message} instead of {Message.ON_CONNECT.value}: another program "
                "listens there, or the plugin has another version"
            )
        self._period_ms = TICK_MS * 5
        self._connection.send(
            request_number(Message.SET_TIMEOUT, round(1000 * self.hold_s))
            + set_speed(self.speed)
            + request_number(Message.SET_STEP_PERIOD, self._period_ms)
            + b"".join(execute(command) for command in (*self.setup, f"set countdown_speed {self.speed:g}"))
            + request(Message.IS_IN_MENUS)
        )
        is_in_menus = bool(self._connection.read(INT)[0])
        if is_in_menus and self.map_path is None:
            raise GameError(f"the game at port {self.port} shows its menus: open a map in it, or give map_path")
        begin = request(Message.GIVE_UP) if self.map_path is None else execute(map_command(self.map_path))
        self._connection.send(begin + request(Message.ON_CONNECT) + request(Message.GET_STATE))
        self._wait_for_start(is_countdown_enough=True)
        self._connection.send(execute(f"cam {self.camera}") + request_number(Message.TOGGLE_INTERFACE, 0))

    def _disconnect(self) -> None:
        self._connection.close()
        self._stage = Stage.CLOSED
        self._picture = None

    def _change_map(self, path: str) -> None:
        self._send_and_go_on(execute(map_command(path)))

    def _begin_race(self) -> None:
        is_in_countdown = self._time_ms < 0
        self._send_and_go_on(set_inputs(NO_KEYS) + (b"" if is_in_countdown else request(Message.GIVE_UP)))

    def _go_on_with(self, inputs: Inputs, *, target_ms: int) -> None:
        step_ms = target_ms - self._time_ms
        period_ms = step_ms if target_ms % step_ms == 0 else TICK_MS
        self._send_and_go_on(self._with_period(period_ms) + set_inputs(inputs))

    def _go_on(self) -> None:
        self._send_and_go_on(b"")

    def _send_and_go_on(self, content: bytes) -> None:
        """Send requests, let the game play on, and request the state of wherever it stops next, all in one packet."""
        thaw = set_speed(self.speed) if self._stage is Stage.FRAME else b""
        self._picture = None
        self._connection.send(content + thaw + _ECHO[self._stage] + request(Message.GET_STATE))

    def _with_period(self, period_ms: int) -> bytes:
        if period_ms == self._period_ms:
            return b""
        self._period_ms = period_ms
        return request_number(Message.SET_STEP_PERIOD, period_ms)

    def _next_run_step(self, passed: list[PassedCheckpoint]) -> None:
        while True:
            self._connection.check_time("reach the awaited run step")
            message = self._connection.read(INT)[0]
            if message == Message.RUN_STEP:
                self._time_ms = self._connection.read(INT)[0]
                self._stage = Stage.RUN_STEP
                self._state = self._read_state()
                if is_finished(self._state):  # without its message: the clock would stand until the finish is removed
                    total = int(head_of(self._state)["checkpoint_count"])
                    passed.append(PassedCheckpoint(total, total, time_of_last(self._state)))
                    self._connection.send(prevent_finish_at(self._state))
                    self._state = bytes(without_last_checkpoint(self._state))
                return
            if message not in (Message.CHECKPOINT, Message.LAP):
                raise ProtocolError(f"message {message} came where a run step or a checkpoint was expected")
            count, total = self._connection.read(TWO_INTS)
            state = self._read_state()
            prevent = b""
            if message == Message.CHECKPOINT:
                check_checkpoint(count, total)
                passed.append(PassedCheckpoint(count, total, time_of_last(state)))
                if count == total:
                    prevent = prevent_finish_at(state)
            self._connection.send(prevent + request(Message(message)) + request(Message.GET_STATE))

    def _present_state(self) -> bytes:
        return self._state

    def _read_state(self) -> bytes:
        state = self._read_sized("a state")
        check_state(state)
        return state

    def _read_sized(self, what: str) -> bytes:
        length = self._connection.read(INT)[0]
        if not 0 <= length <= MAX_STATE_BYTES:
            raise ProtocolError(f"{what} of {length} bytes is announced: the stream is out of step")
        return self._connection.read_bytes(length)
