"""``LapStarts``: the lap of each track in whose states training episodes begin, and which of the states they choose."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.envs.own_laps import OwnLaps
from tm_torchrl.envs.segment_times import SegmentTimes
from tm_torchrl.sim.lap_trace import LapTrace, start_lap
from tm_torchrl.sim.simulator import Simulator
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.tracker import EndCause, Tracker

LEAD_STEPS = 40  # an episode begins at most two seconds before the segment that it is to practise
LINE_M, LINE_SPEED = 1.0, 2.5  # an episode that begins within these, in m and m/s, begins on the start line


class LapStarts:
    """Gives laps and chances to a simulator whose ``starts`` use laps.

    All of it follows from what the cars of this simulator drive, so with several worker processes each has its own.

    Args:
        world: The simulator.
        tracker: Follows its cars.
        block: Actions of a step.
    """

    def __init__(self, world: Simulator, tracker: Tracker, *, block: int = 1) -> None:
        self._world, self._tracker = world, tracker
        tracks, num = world.tracks, world.num_cars
        self.laps: list[LapTrace | None] = [None] * len(tracks)
        self.times: SegmentTimes | None = None
        if world.starts.lost_time > 0.0:
            self.times = SegmentTimes(tracker.zones.finish_distance.numpy().tolist(), num_cars=num)
        self._lap_s = [np.zeros(0)] * len(tracks)  # time of the lap in each segment
        self._windows = [torch.zeros(0)] * len(tracks)  # chances of its states, given the segment
        self._is_from_line = np.zeros(num, bool)
        self.own = OwnLaps(tracks, num_cars=num, block=block) if world.starts.laps == "own" else None
        if self.own is None:
            for number, track in enumerate(tracks):
                self._set_lap(number, start_lap(track, world.starts.laps))

    def _set_lap(self, number: int, lap: LapTrace) -> None:
        self.laps[number] = lap
        self._world.lap_states.set_lap(number, lap.states, lap.zones)
        if self.times is None:
            return
        bounds = self.times.bounds[number]
        self._lap_s[number] = np.diff(lap.times_at(bounds))
        first = torch.from_numpy(np.searchsorted(lap.progress_m, bounds))
        step, begin, end = torch.arange(len(lap.states)), first[:-1, None] - LEAD_STEPS, first[1:, None]
        window = ((step >= begin) & (step < end)).double()
        self._windows[number] = window / window.sum(1, keepdim=True)

    def prepare(self) -> None:
        """Set the chances of the states; called before cars are reset."""
        for number, lap in enumerate(self.laps):
            if self.times is not None and lap is not None:
                chances = torch.from_numpy(self.times.chances(number, self._lap_s[number]))
                self._world.lap_states.set_chances(number, chances @ self._windows[number])

    def begin(self, mask: Tensor) -> None:
        """Take note of the episodes that the masked cars have begun."""
        cars = np.flatnonzero(mask.cpu().numpy())
        tracks, progress, _, _ = self._read()
        speed = self._world.rows()[:, CAR_ROW["velocity"]].norm(dim=1).cpu().numpy()
        self._is_from_line[cars] = ((np.abs(progress) <= LINE_M) & (speed <= LINE_SPEED))[cars]
        if self.times is not None:
            self.times.begin(cars, tracks, progress, self._is_from_line)
        if self.own is not None:
            self.own.begin(cars, self._world.save())

    def follow(self, actions: Tensor) -> None:
        """Follow the cars through a step in which these actions were played."""
        tracks, progress, time_ms, end_cause = self._read()
        if self.times is not None:
            self.times.follow(tracks, progress, time_ms, end_cause)
        if self.own is not None:
            is_lap = (end_cause == EndCause.FINISHED) & self._is_from_line
            for number in self.own.follow(actions, tracks, time_ms, is_lap):
                self._take_own(number)

    def _take_own(self, number: int) -> None:
        lap = None if self.own is None else self.own.best[number]
        if lap is not None:
            self._set_lap(number, lap)

    def _read(self) -> tuple[np.ndarray, ...]:
        """Track, progress, race time and cause of end of each car."""
        names = ("progress_m", "race_time_ms", "end_cause")
        columns = [self._tracker[name].cpu().numpy().astype(np.float64) for name in names]
        return (self._world.track_index.cpu().numpy(), *columns)

    def save(self) -> dict[str, dict[str, Tensor]]:
        """What the starts of later episodes depend on."""
        return {
            "begun": {"is_from_line": torch.from_numpy(self._is_from_line.copy())},
            "times": {} if self.times is None else self.times.save(),
            "own": {} if self.own is None else self.own.save(),
        }

    def restore(self, saved: dict[str, dict[str, Tensor]]) -> None:
        """Continue from a saved state; a part that it lacks begins anew."""
        self._is_from_line[:] = saved["begun"]["is_from_line"].numpy()
        if self.times is not None and saved["times"]:
            self.times.restore(saved["times"])
        if self.own is not None and saved["own"]:
            self.own.restore(saved["own"])
            for number in range(len(self.laps)):
                self._take_own(number)
