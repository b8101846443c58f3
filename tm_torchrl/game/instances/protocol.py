"""What starts game instances: the emulator's launcher, or the real game's."""

from __future__ import annotations

from typing import Protocol


class LaunchedGame(Protocol):
    """A running game instance that this process has started."""

    address: int | str  # where a client finds it: a port, or a channel's name

    @property
    def is_running(self) -> bool:
        """Whether its process is running."""
        ...

    @property
    def is_due(self) -> bool:
        """Whether it has run so long that it should be restarted after the episode."""
        ...

    def stop(self) -> None:
        """End it, and nothing else; never raises, and may be called twice."""
        ...


class Launcher(Protocol):
    """Starts game instances; it is sent to worker processes, which start their own."""

    def launch(self, instance: int, *, address: int | str) -> LaunchedGame:
        """Start an instance, and wait until clients can connect.

        Args:
            instance: Number of the instance, counted from 0.
            address: Where it should listen; port 0 lets the system choose.
        """
        ...
