"""What the environment asks of a world; the simulator and the game clients answer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from tm_torchrl.tracks import Track


class World(Protocol):
    """Some cars on some tracks, advanced 50 ms at a time."""

    @property
    def num_cars(self) -> int:
        """Cars in this world."""
        ...

    @property
    def device(self) -> torch.device:
        """Where rows and frames live."""
        ...

    @property
    def tracks(self) -> Sequence[Track]:
        """The tracks that ``track_index`` counts."""
        ...

    @property
    def track_index(self) -> torch.Tensor:
        """Each car's track, int32 ``[B]``; the same tensor for the world's whole life."""
        ...

    @property
    def image_size(self) -> int | None:
        """Edge of a camera image, ``None`` without camera."""
        ...

    def reset(self, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Begin new episodes for the masked cars; returns the zones where cars start, int32 ``[B]``."""
        ...

    def step(self, actions: torch.Tensor) -> None:
        """Play 50 ms: one action ``[B]`` held, or ``[B, 5]`` with one action a tick; int64 in 0..11."""
        ...

    def rows(self) -> torch.Tensor:
        """Car rows, float32 ``[B, CAR_ROW.size]``; the same memory for the world's whole life."""
        ...

    def frames(self) -> torch.Tensor:
        """Grey camera images, uint8 ``[B, 1, H, W]``; the next call may overwrite them."""
        ...

    def save(self) -> torch.Tensor:
        """A copy of everything that the future depends on, one row per car."""
        ...

    def restore(self, blob: torch.Tensor) -> None:
        """Go back to a saved state."""
        ...

    def set_seed(self, seed: int) -> None:
        """Key the randomness of the resets that follow."""
        ...
