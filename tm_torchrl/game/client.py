"""What a world asks of a client of the game, whichever protocol it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tm_torchrl.world.actions import Inputs


@dataclass(frozen=True)
class Passed:
    """A checkpoint that was passed.

    Args:
        count: checkpoints passed so far, over all laps.
        total: of the race, the finish included; ``count == total`` is the finish.
        time_ms: race time when it was passed.
    """

    count: int
    total: int
    time_ms: int


@dataclass(frozen=True)
class Moment:
    """Where the game waits for us.

    Args:
        state: the game's state, in the bytes that ``rewind`` takes (see ``state_layout``).
        passed: checkpoints that were passed on the way here, the earliest first.
    """

    state: bytes
    passed: tuple[Passed, ...] = ()


class Client(Protocol):
    """One running game, which stands still between calls.

    A client is disconnected, then connected and waiting. Calls in the wrong place raise ``CallRefused`` before a byte
    is sent; every wait ends by its deadline with ``GameTimeout``; a lost connection is ``GameGone``, bytes out of step
    are ``ProtocolError``, and after any of these three the client is disconnected. ``timeout_s=None`` takes the one
    that the client was made with.
    """

    @property
    def address(self) -> int | str:
        """Of the game instance: a port (2.x) or a channel's name (1.x)."""
        ...

    @property
    def timeout_s(self) -> float:
        """Of calls without one of their own."""
        ...

    @property
    def connect_timeout_s(self) -> float:
        """Of those in which maps are loaded."""
        ...

    @property
    def has_frames(self) -> bool:
        """Whether this protocol delivers pictures."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether the other calls may be made."""
        ...

    def at(self, address: int | str) -> Client:
        """An equal client of another instance, not connected."""
        ...

    def connect(self, *, timeout_s: float | None = None) -> None:
        """Connect, set the game up and, where a map was asked for, load it; afterwards the game waits in a race."""
        ...

    def load_map(self, path: str, *, timeout_s: float | None = None) -> None:
        """Change to another map; afterwards the game waits in its countdown."""
        ...

    def restart(self, *, timeout_s: float | None = None) -> Moment:
        """Begin the race anew, through the countdown; afterwards the game waits at race time 0."""
        ...

    def drive(self, inputs: Inputs, *, num_ticks: int, timeout_s: float | None = None) -> Moment:
        """Hold these keys for so many ticks of 10 ms; a finish on the way is told, but does not end the race."""
        ...

    def rewind(self, state: bytes, *, timeout_s: float | None = None) -> None:
        """Go back to a state; the next drive continues from there."""
        ...

    def frame(self, *, width: int, height: int, timeout_s: float | None = None) -> np.ndarray:
        """The picture of the moment where the game waits, grey, uint8 ``[height, width]``."""
        ...

    def close(self) -> None:
        """Let the game go on by itself, and disconnect; never raises, and may be called twice."""
        ...
