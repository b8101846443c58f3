"""Writes the float observations of all cars."""

from __future__ import annotations

import torch
import warp as wp

from tm_torchrl.world.observation import observation_layout
from tm_torchrl.world.protocol import World
from tm_torchrl.world.sense_kernel import sense
from tm_torchrl.world.tracker import Tracker
from tm_torchrl.world.warp_arrays import as_warp, warp_device


class Sensors:
    """Float observations of all cars of a world.

    Args:
        world: The world whose cars to observe.
        tracker: The tracker of these cars.
    """

    def __init__(self, world: World, tracker: Tracker) -> None:
        self.layout = observation_layout(tracker.num_previous_actions)
        self.out = torch.zeros(world.num_cars, self.layout.size, device=world.device)
        self._mask = torch.ones(world.num_cars, dtype=torch.bool, device=world.device)
        self._launch = wp.launch(
            sense,
            dim=world.num_cars,
            inputs=[
                as_warp(world.rows()),
                as_warp(tracker.rows),
                as_warp(world.track_index),
                as_warp(self._mask),
                tracker.zones,
                tracker.num_previous_actions,
                as_warp(self.out),
            ],
            device=warp_device(world.device),
            record_cmd=True,
        )

    def write(self, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Write the masked rows (all by default) and return ``[B, F]``; the next call writes to the same tensor."""
        if mask is None:
            self._mask.fill_(True)
        else:
            self._mask.copy_(mask)
        self._launch.launch()
        return self.out
