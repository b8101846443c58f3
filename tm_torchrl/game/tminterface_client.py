"""What the clients of TMInterface 1.x and 2.x have in common: settings, deadlines, and the order of a race."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from tm_torchrl.game.client import PassedCheckpoint, Snapshot
from tm_torchrl.game.errors import CallRefused, GameTimeout, ProtocolError
from tm_torchrl.game.state_layout import check_values
from tm_torchrl.world.actions import TICK_MS, Inputs

NO_KEYS = Inputs(gas=False, brake=False, left=False, right=False)


class Stage(Enum):
    """What a client is doing; when connected, what the game waits in."""

    CLOSED = "not connected"
    CONNECTING = "connecting"
    RUN_STEP = "in a run step"
    FRAME = "in a picture"


@dataclass(kw_only=True, eq=False)
class TMInterfaceClient(ABC):
    """Base of the clients; see ``Client``. The game waits in a run step between calls.

    Args:
        map_path: Map to load when connecting, as the game's ``map`` command takes it; ``None`` keeps the open map.
        timeout_s: Timeout of every call that does not set its own.
        connect_timeout_s: Timeout of ``connect``, ``load_map`` and ``restart``.
        hold_s: How long the game waits for this client before it drops it; longer than the longest pause in training.
        speed: Game speed while driving, as a multiple of real time.
        setup: Console commands to run when connecting.
    """

    has_frames: ClassVar[bool]
    max_hold_s: ClassVar[int]  # the protocol sends it in ms, in four bytes

    map_path: str | None = None
    timeout_s: float = 10.0
    connect_timeout_s: float = 60.0
    hold_s: float = 600.0
    speed: float = 80.0
    setup: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("timeout_s", "connect_timeout_s", "speed"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be positive")
        if not 0.1 <= self.hold_s <= self.max_hold_s:
            raise ValueError(f"hold_s={self.hold_s}: must be between 0.1 and {self.max_hold_s} seconds")
        self.setup = tuple(self.setup)
        self._stage = Stage.CLOSED
        self._time_ms = 0

    @property
    def is_connected(self) -> bool:
        """Whether the game waits for this client."""
        return self._stage in (Stage.RUN_STEP, Stage.FRAME)

    @property
    def time_ms(self) -> int:
        """Race time where the game waits."""
        return self._time_ms

    def connect(self, *, timeout_s: float | None = None) -> None:
        """Connect and set the game up; then it waits in a run step."""
        if self._stage is not Stage.CLOSED:
            raise CallRefused(f"connect: the client is {self._stage.value}; close it first")
        with self._call(timeout_s or self.connect_timeout_s):
            self._stage = Stage.CONNECTING
            self._open()

    def load_map(self, path: str, *, timeout_s: float | None = None) -> None:
        """Change to another map."""
        self._require_connection("load_map")
        with self._call(timeout_s or self.connect_timeout_s):
            self.map_path = path
            self._change_map(path)
            self._wait_for_start(is_countdown_enough=True)

    def restart(self, *, timeout_s: float | None = None) -> Snapshot:
        """Give up the race, and wait for the start signal of the next one."""
        self._require_connection("restart")
        with self._call(timeout_s or self.connect_timeout_s):
            self._begin_race()
            self._wait_for_start(is_countdown_enough=False)
            return Snapshot(self._checked_state())

    def drive(self, inputs: Inputs, *, num_ticks: int, timeout_s: float | None = None) -> Snapshot:
        """Hold keys for ``num_ticks`` of 10 ms."""
        self._require_connection("drive")
        if num_ticks < 1:
            raise ValueError(f"num_ticks={num_ticks}: must be at least 1")
        with self._call(timeout_s or self.timeout_s):
            target_ms = self._time_ms + TICK_MS * num_ticks
            passed: list[PassedCheckpoint] = []
            self._go_on_with(inputs, target_ms=target_ms)
            self._next_run_step(passed)
            while self._time_ms < target_ms:
                self._go_on()
                self._next_run_step(passed)
            is_finished = bool(passed) and passed[-1].count == passed[-1].total
            if self._time_ms > target_ms and not is_finished:
                raise ProtocolError(f"the race is at {self._time_ms} ms instead of {target_ms} ms: its clock jumped")
            return Snapshot(self._checked_state(), tuple(passed))

    def _checked_state(self) -> bytes:
        state = self._present_state()
        check_values(state)
        return state

    def _shared_settings(self) -> dict[str, Any]:
        """The constructor's arguments that do not name an instance."""
        names = ("map_path", "timeout_s", "connect_timeout_s", "hold_s", "speed", "setup")
        return {name: getattr(self, name) for name in names}

    def _require_connection(self, call: str) -> None:
        if not self.is_connected:
            raise CallRefused(f"{call}: the client is {self._stage.value}; connect it first")

    @contextlib.contextmanager
    def _call(self, timeout_s: float) -> Iterator[None]:
        """Give a call its deadline; after an error nobody knows whose turn it is, so the connection is closed."""
        self._set_deadline(timeout_s)
        try:
            yield
        except BaseException:  # an interrupt can leave a message half read, too
            self._disconnect()
            raise

    def _wait_for_start(self, *, is_countdown_enough: bool) -> None:
        """Play on to the countdown, or to its end."""
        is_countdown = False
        try:
            while True:
                self._next_run_step([])
                is_countdown = is_countdown or self._time_ms < 0
                if self._time_ms == 0 or (is_countdown_enough and is_countdown):
                    return
                if is_countdown and self._time_ms > 0:
                    raise ProtocolError(f"the race is at {self._time_ms} ms: its start was missed")
                self._go_on()
        except GameTimeout as error:
            where = "the open map" if self.map_path is None else f"map {self.map_path!r}"
            raise GameTimeout(
                f"{where} did not start: {error}. Does the game show its menus or a dialog? Is the map in its "
                "Challenges folder?"
            ) from error

    @abstractmethod
    def _set_deadline(self, timeout_s: float) -> None:
        """All waiting until the next deadline is set ends after this time."""

    @abstractmethod
    def _open(self) -> None:
        """Connect, set the game up, and wait for a countdown."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Close the connection, without a word to the game."""

    @abstractmethod
    def _change_map(self, path: str) -> None:
        """Ask for a map, and let the game go on."""

    @abstractmethod
    def _begin_race(self) -> None:
        """Release all keys, give the race up unless it is in its countdown, and let the game go on."""

    @abstractmethod
    def _go_on_with(self, inputs: Inputs, *, target_ms: int) -> None:
        """Let the game go on with these keys, towards a race time at which the next decision is due."""

    @abstractmethod
    def _go_on(self) -> None:
        """Let the game go on with the keys that it has."""

    @abstractmethod
    def _next_run_step(self, passed: list[PassedCheckpoint]) -> None:
        """Handle messages up to the next run step, and append the checkpoints that are passed on the way."""

    @abstractmethod
    def _present_state(self) -> bytes:
        """The state of the run step that the game waits in."""


def map_command(path: str) -> str:
    """The console's command that loads a map.

    >>> map_command("a b.Gbx")
    'map "a b.Gbx"'
    """
    return f'map "{path}"' if " " in path else f"map {path}"


def check_checkpoint(count: int, total: int) -> None:
    """Raise ``ProtocolError`` for a checkpoint that no race can have."""
    if not 0 < count <= total:
        raise ProtocolError(f"the game reports checkpoint {count} of {total}, which does not exist")
