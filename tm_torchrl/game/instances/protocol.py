"""What starts game instances: the emulator's, or the real game's."""

from __future__ import annotations

from typing import Protocol


class Launched(Protocol):
    """A game instance that runs because we started it."""

    @property
    def address(self) -> int | str:
        """Where a client finds it: a port, or a channel's name."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        ...

    @property
    def is_due(self) -> bool:
        """Whether it has run so long that it should be started anew when an episode ends."""
        ...

    def stop(self) -> None:
        """End it, and nothing else; never raises, and may be called twice."""
        ...


class Launcher(Protocol):
    """Starts game instances; travels to worker processes, which start their own."""

    def launch(self, instance: int, *, address: int | str) -> Launched:
        """Start one and wait until clients can connect.

        Args:
            instance: its number, counted from 0.
            address: where it shall listen; port 0 lets the system choose.
        """
        ...
