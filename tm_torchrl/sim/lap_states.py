"""``LapStates``: the states of one lap on each track, from which the simulator's cars may begin episodes.

Shapes: T tracks, K states of a lap, S floats of a state.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tm_torchrl.sim.place_kernel import LapTable
from tm_torchrl.sim.state import STATE
from tm_torchrl.world.warp_arrays import as_warp

CAPACITY = 2400  # steps of 50 ms: two minutes, the limit of an evaluated lap


class LapStates:
    """Room for a lap on each track, which the kernel that places cars reads.

    Args:
        num_tracks: T.
        device: The simulator's device.
        is_used: Whether any car begins on a lap; otherwise nothing is stored.
    """

    def __init__(self, num_tracks: int, *, device: torch.device, is_used: bool) -> None:
        self._capacity = CAPACITY if is_used else 1
        rows = num_tracks * self._capacity
        self._state = torch.zeros(rows, STATE.size, device=device)
        self._zone = torch.zeros(rows, dtype=torch.int32, device=device)
        self._chance = torch.zeros(rows, device=device)
        self._count = torch.zeros(num_tracks, dtype=torch.int32, device=device)
        self.table = LapTable()
        self.table.state, self.table.zone = as_warp(self._state), as_warp(self._zone)
        self.table.chance, self.table.count = as_warp(self._chance), as_warp(self._count)
        self.table.capacity = self._capacity

    def set_lap(self, track: int, states: Tensor, zones: Tensor) -> None:
        """Let cars begin in these states from now on, instead of those of an earlier lap.

        Args:
            track: The track's number in the simulator.
            states: Saved states ``[K, S]``.
            zones: The zone of each state, int32 ``[K]``.
        """
        num = len(states)
        if not 0 < num <= self._capacity or states.shape[1] != STATE.size:
            raise ValueError(
                f"states has shape {list(states.shape)}; must be [K, {STATE.size}] with 1 <= K <= {self._capacity}"
            )
        mine = slice(track * self._capacity, track * self._capacity + num)
        self._state[mine], self._zone[mine] = states.to(self._state.device), zones.to(self._zone.device)
        self._count[track] = num
        self.set_chances(track, torch.ones(num))

    def set_chances(self, track: int, weights: Tensor) -> None:
        """How often each state is drawn by the episodes that begin where time is lost.

        Args:
            track: The track's number in the simulator.
            weights: In proportion to the chances ``[K]``.
        """
        chance = weights.double().cumsum(0)
        mine = slice(track * self._capacity, track * self._capacity + len(weights))
        self._chance[mine] = (chance / chance[-1]).to(self._chance)

    def save(self) -> dict[str, Tensor]:
        """The laps and the chances."""
        return {"lap_state": self._state, "lap_zone": self._zone, "lap_chance": self._chance, "lap_count": self._count}

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Have the laps and the chances that ``save`` returned."""
        for name, values in self.save().items():
            values.copy_(saved[name])
