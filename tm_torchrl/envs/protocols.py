"""What an environment may offer beyond TorchRL's ``EnvBase``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from tensordict import TensorDictBase


@runtime_checkable
class Resumable(Protocol):
    """An environment that a saved run continues exactly; without these methods, new episodes begin."""

    def save(self) -> Any:
        """The state of all copies, as nested tensors and plain values."""
        ...

    def restore(self, saved: Any) -> None:
        """Continue from a saved state."""
        ...

    def present(self) -> TensorDictBase:
        """The current observations, as a reset returns them."""
        ...


@runtime_checkable
class FollowsFrames(Protocol):
    """An environment that changes with the number of frames played, such as one with rewards on a schedule."""

    def set_frames(self, num_frames: int) -> None:
        """Called with the frames of the whole training, before each step."""
        ...


@runtime_checkable
class SeedsCopies(Protocol):
    """An environment whose copies take seeds of their own: from equal seeds they begin in equal states."""

    def seed_copies(self, seeds: Sequence[int | None]) -> None:
        """Seed the next reset of each copy, except where there is ``None``."""
        ...
