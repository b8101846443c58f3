"""The tracker: what an episode needs beside the car row, such as progress, past actions and why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import warp as wp

import tm_torchrl.world.tracker_kernels as k
from tm_torchrl.tracks import Track
from tm_torchrl.world.end_cause import EndCause as EndCause
from tm_torchrl.world.layout import Field, Layout
from tm_torchrl.world.protocol import World
from tm_torchrl.world.warp_arrays import as_warp, warp_device
from tm_torchrl.world.zone_table import ZoneTable, build_zone_table


@dataclass(frozen=True)
class Limits:
    """When an episode is cut short.

    Args:
        race_s: longest race; 300 s as in Linesight.
        no_progress_s: longest time at less than 1.25 m/s along the road; 2 s as in Linesight, where any 0.5 m count.
        overturned_s: longest time on side or roof.
        airborne_s: longest time without any wheel on the ground.
    """

    race_s: float = 300.0
    no_progress_s: float = 2.0
    overturned_s: float = 1.0
    airborne_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("race_s", "no_progress_s", "overturned_s", "airborne_s"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and value > 0.0):
                raise ValueError(f"limits: {name}={value!r}: must be a positive number of seconds")


def tracker_layout(num_previous_actions: int, num_gates: int) -> Layout:
    """The fields of a tracker row; whole numbers are exact in its floats."""
    if type(num_previous_actions) is not int:
        raise ValueError(f"num_previous_actions={num_previous_actions!r}: must be a whole number")
    return Layout(
        *k.FIXED_FIELDS,
        Field("previous_actions", num_previous_actions, "index", "oldest first"),
        Field("checkpoint_times_ms", num_gates, "ms", "0 while not passed; the finish is the last"),
    )


class Tracker:
    """Tracker rows of all cars of a world, the simulator or the game.

    Args:
        world: The world whose cars to follow.
        num_previous_actions: How many past actions to remember.
        limits: When an episode is cut short.
    """

    def __init__(self, world: World, *, num_previous_actions: int = 5, limits: Limits | None = None) -> None:
        if not isinstance(limits, Limits | None):
            raise ValueError(f"limits={limits!r}: must be Limits(...), or None")
        self.limits = limits or Limits()
        self.num_previous_actions = num_previous_actions
        self.device = world.device
        self.num_cars = world.num_cars
        tracks: Sequence[Track] = world.tracks
        self.zones: ZoneTable = build_zone_table(tracks, device=warp_device(world.device))
        self.num_gates = max(len(track.gates) * track.num_laps for track in tracks)
        self.layout = tracker_layout(num_previous_actions, self.num_gates)
        self.rows = torch.zeros(self.num_cars, self.layout.size, device=self.device)
        limits_ms = k.TrackerLimits()
        limits_ms.race_ms = 1000.0 * self.limits.race_s
        limits_ms.no_progress_ms = 1000.0 * self.limits.no_progress_s
        limits_ms.overturned_ms = 1000.0 * self.limits.overturned_s
        limits_ms.airborne_ms = 1000.0 * self.limits.airborne_s
        self._mask = torch.ones(self.num_cars, dtype=torch.bool, device=self.device)
        self._start_zone = torch.zeros(self.num_cars, dtype=torch.int32, device=self.device)
        cars = [as_warp(self.rows), as_warp(world.rows()), as_warp(world.track_index)]
        self._reset = self._record(
            k.reset_tracker,
            [*cars, as_warp(self._start_zone), as_warp(self._mask), self.zones, num_previous_actions],
        )
        self._update_arguments = (cars, [self.zones, limits_ms, num_previous_actions])
        self._updates: dict[int, tuple[torch.Tensor, wp.Launch]] = {}

    def _record(self, kernel: wp.Kernel, inputs: list[object]) -> wp.Launch:
        return wp.launch(kernel, dim=self.num_cars, inputs=inputs, device=warp_device(self.device), record_cmd=True)

    def __getitem__(self, name: str) -> torch.Tensor:
        """A view of one field of all cars: ``[B]`` if it is one float, else ``[B, n]``."""
        where = self.layout[name]
        return self.rows[:, where.start] if where.stop - where.start == 1 else self.rows[:, where]

    def reset(self, start_zone: torch.Tensor, mask: torch.Tensor) -> None:
        """Begin new episodes of the masked cars; the search for each car's zone begins at ``start_zone``."""
        self._start_zone.copy_(start_zone)
        self._mask.copy_(mask)
        self._reset.launch()

    def update(self, actions: torch.Tensor) -> None:
        """Follow the cars through the step in which ``actions`` (``[B]`` or ``[B, S]``) were played."""
        actions = actions.view(self.num_cars, -1)
        slots = actions.shape[1]
        if slots not in self._updates:
            buffer = torch.zeros_like(actions)
            cars, others = self._update_arguments
            self._updates[slots] = (buffer, self._record(k.update_tracker, [*cars, as_warp(buffer), *others]))
        buffer, launch = self._updates[slots]
        buffer.copy_(actions)
        launch.launch()

    def save(self) -> torch.Tensor:
        """A copy of all rows."""
        return self.rows.clone()

    def restore(self, rows: torch.Tensor) -> None:
        """Go back to saved rows."""
        if rows.shape != self.rows.shape:
            raise ValueError(f"rows has shape {tuple(rows.shape)}; expected {tuple(self.rows.shape)}")
        self.rows.copy_(rows)
