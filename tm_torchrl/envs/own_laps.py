"""``OwnLaps``: the fastest lap of each track that the cars of an environment have driven, as its actions and its start.

Shapes: B cars, S floats of a saved state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.sim.lap_states import CAPACITY
from tm_torchrl.sim.lap_trace import LapTrace, trace_lap
from tm_torchrl.sim.state import STATE
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import TICKS_PER_ACTION


class OwnLaps:
    """Keeps what the cars play, and so the fastest lap from the start line.

    Args:
        tracks: The tracks.
        num_cars: B.
        block: Actions of a step.
    """

    def __init__(self, tracks: Sequence[Track], *, num_cars: int, block: int) -> None:
        self._tracks = tracks
        self.best: list[LapTrace | None] = [None] * len(tracks)
        self._actions = torch.zeros(num_cars, CAPACITY, *(() if block == 1 else (TICKS_PER_ACTION,)), dtype=torch.uint8)
        self._num_steps = torch.zeros(num_cars, dtype=torch.int64)
        self._starts = torch.zeros(num_cars, STATE.size)

    def begin(self, cars: np.ndarray, states: Tensor) -> None:
        """Take note of new episodes.

        Args:
            cars: Numbers of the cars that begin.
            states: Saved states of all cars ``[B, S]``.
        """
        self._num_steps[cars] = 0
        self._starts[cars] = states.cpu()[cars]

    def follow(self, actions: Tensor, tracks: np.ndarray, time_ms: np.ndarray, is_lap: np.ndarray) -> set[int]:
        """Follow all cars through a step; returns the tracks with a new fastest lap.

        Args:
            actions: What was played ``[B]`` or ``[B, 5]``.
            tracks: Track of each car ``[B]``.
            time_ms: Race time of each car ``[B]``.
            is_lap: Which cars have just finished a lap that they began on the start line ``[B]``.
        """
        step = self._num_steps.clamp_max(CAPACITY - 1)
        self._actions[torch.arange(len(step)), step] = actions.cpu().to(torch.uint8)
        self._num_steps += 1
        improved = set()
        for car in sorted(np.flatnonzero(is_lap).tolist(), key=lambda each: float(time_ms[each])):
            number, num = int(tracks[car]), int(self._num_steps[car])
            best = self.best[number]
            if num <= CAPACITY and (best is None or time_ms[car] / 1000.0 < best.time_s):
                lap = trace_lap(self._tracks[number], self._actions[car, :num].numpy().copy(), self._starts[car])
                if lap is not None:
                    self.best[number] = lap
                    improved.add(number)
        return improved

    def save(self) -> dict[str, Tensor]:
        """The laps in progress, and the fastest of each track, number after number."""
        found = {"actions": self._actions.clone(), "num_steps": self._num_steps.clone(), "starts": self._starts.clone()}
        for number, lap in enumerate(self.best):
            if lap is not None:
                found[f"actions_{number}"] = torch.from_numpy(lap.actions.copy())
                found[f"start_{number}"] = lap.states[0].clone()
        return found

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Continue from a saved state; the fastest laps are driven again."""
        self._actions.copy_(saved["actions"])
        self._num_steps.copy_(saved["num_steps"])
        self._starts.copy_(saved["starts"])
        for number, track in enumerate(self._tracks):
            actions = saved.get(f"actions_{number}")
            self.best[number] = (
                None if actions is None else trace_lap(track, actions.numpy().copy(), saved[f"start_{number}"])
            )
