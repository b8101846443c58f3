"""The protocol that the simulator and the game implement for the environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from tm_torchrl.tracks import Track


class World(Protocol):
    """Some cars on some tracks, advanced 50 ms at a time."""

    @property
    def num_cars(self) -> int:
        """The batch size B."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of rows and frames."""
        ...

    @property
    def tracks(self) -> Sequence[Track]:
        """The tracks; ``track_index`` refers to them."""
        ...

    @property
    def track_index(self) -> torch.Tensor:
        """Each car's track, int32 ``[B]``; always the same tensor."""
        ...

    @property
    def image_size(self) -> int | None:
        """Height and width of a camera image in pixels; ``None`` without a camera."""
        ...

    def reset(self, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Begin new episodes for the masked cars (all by default); returns each car's start zone, int32 ``[B]``."""
        ...

    def step(self, actions: torch.Tensor) -> None:
        """Play 50 ms: one action ``[B]`` held, or ``[B, 5]`` with one action per tick; int64 in 0..11."""
        ...

    def rows(self) -> torch.Tensor:
        """Car rows, float32 ``[B, CAR_ROW.size]``; always the same memory, overwritten by each step."""
        ...

    def frames(self) -> torch.Tensor:
        """Greyscale camera images, uint8 ``[B, 1, H, W]``; the next call may overwrite them."""
        ...

    def save(self) -> torch.Tensor:
        """A copy of the state that the future depends on, one row per car."""
        ...

    def restore(self, blob: torch.Tensor) -> None:
        """Return to a saved state."""
        ...

    def set_seed(self, seed: int | None) -> None:
        """Seed the resets that follow; ``None`` takes a seed from the system's entropy."""
        ...
