"""What a world needs from a client of the game, whichever protocol the client speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tm_torchrl.world.actions import Inputs


@dataclass(frozen=True)
class PassedCheckpoint:
    """A checkpoint that the car has passed.

    Args:
        count: Checkpoints passed so far, over all laps.
        total: Checkpoints of the whole race, including the finish; ``count == total`` is the finish.
        time_ms: Race time at which it was passed.
    """

    count: int
    total: int
    time_ms: int


@dataclass(frozen=True)
class Snapshot:
    """The game where it waits for the client.

    Args:
        state: The game's state, in the bytes that ``rewind`` takes (see ``state_layout``).
        passed: Checkpoints passed since the last snapshot, the earliest first.
    """

    state: bytes
    passed: tuple[PassedCheckpoint, ...] = ()


class Client(Protocol):
    """One running game, which stands still between calls.

    A client starts disconnected. A call that does not fit the client's state raises ``CallRefused`` before a byte is
    sent. Every wait has a deadline and ends with ``GameTimeout``; a lost connection raises ``GameGone`` and unexpected
    bytes raise ``ProtocolError``. After any of these three the client is disconnected. With ``timeout_s=None`` a call
    uses the timeout that the client was constructed with.
    """

    timeout_s: float  # of a call, unless the call sets its own
    connect_timeout_s: float  # of calls that load a map or wait for the countdown

    @property
    def address(self) -> int | str:
        """Address of the game instance: a port (2.x) or a channel's name (1.x)."""
        ...

    @property
    def has_frames(self) -> bool:
        """Whether this protocol delivers pictures."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether the game waits for this client."""
        ...

    def at(self, address: int | str) -> Client:
        """A new client with the same settings for another instance, not connected."""
        ...

    def connect(self, *, timeout_s: float | None = None) -> None:
        """Connect, set the game up and load the client's map, if it has one; then the game waits in a race."""
        ...

    def load_map(self, path: str, *, timeout_s: float | None = None) -> None:
        """Change to another map; then the game waits in its countdown."""
        ...

    def restart(self, *, timeout_s: float | None = None) -> Snapshot:
        """Restart the race, through the countdown; then the game waits at race time 0."""
        ...

    def drive(self, inputs: Inputs, *, num_ticks: int, timeout_s: float | None = None) -> Snapshot:
        """Hold these keys for ``num_ticks`` of 10 ms; a finish on the way is reported but does not end the race."""
        ...

    def rewind(self, state: bytes, *, timeout_s: float | None = None) -> None:
        """Go back to a state; the next ``drive`` continues from there."""
        ...

    def frame(self, *, width: int, height: int, timeout_s: float | None = None) -> np.ndarray:
        """The picture where the game waits, in grey, uint8 ``[height, width]``."""
        ...

    def close(self) -> None:
        """Let the game run on by itself, and disconnect; never raises, and may be called twice."""
        ...
