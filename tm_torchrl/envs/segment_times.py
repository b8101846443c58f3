"""``SegmentTimes``: how long cars take for each segment of a track, and which segments they should practise.

Segments are drawn by the rank of the time that is lost in them and by how long ago episodes began there, as levels are
in prioritised level replay (Jiang et al. 2021). Shapes: B cars, G segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.world.tracker import EndCause

SEGMENT_M = 50.0
STALENESS = 0.1  # share of the draws that goes by how long ago episodes began there; Jiang et al. 2021
NEWEST = 0.1  # weight of a new measurement in the mean of a segment
SETTLED_MS = 3000.0  # until then a slow or askew start costs time; only starts on the line count from 0


class SegmentTimes:
    """Mean times of the segments of some tracks, from all cars that drive through them.

    Args:
        lengths_m: Length of each track.
        num_cars: B.
    """

    def __init__(self, lengths_m: Sequence[float], *, num_cars: int) -> None:
        self.bounds = [np.append(np.arange(max(1, int(each / SEGMENT_M))) * SEGMENT_M, each) for each in lengths_m]
        shape = (len(self.bounds), max(len(bounds) for bounds in self.bounds) - 1)
        self.mean_s = np.full(shape, np.inf)  # infinite before the first measurement
        self.begun_at = np.zeros(shape)  # number of the last episode that began there
        self.num_begun = np.zeros(1, np.int64)
        self.segment = np.zeros(num_cars, np.int64)
        self.entered_ms = np.full(num_cars, np.nan)  # NaN for a car that does not count in this segment
        self.counts_from_ms = np.zeros(num_cars)
        self.before = np.zeros((2, num_cars))  # progress and race time one step ago

    def chances(self, track: int, lap_s: np.ndarray) -> np.ndarray:
        """How often an episode should begin at each segment ``[G]``.

        Args:
            track: Number of the track.
            lap_s: How long the lap takes for each segment, against which time is lost ``[G]``.
        """
        num = len(lap_s)
        order = np.argsort(lap_s - self.mean_s[track, :num], kind="stable")
        by_rank = np.empty(num)
        by_rank[order] = 1.0 / np.arange(1, num + 1)
        age = self.num_begun - self.begun_at[track, :num] + 1.0
        return (1.0 - STALENESS) * by_rank / by_rank.sum() + STALENESS * age / age.sum()

    def begin(self, cars: np.ndarray, tracks: np.ndarray, progress_m: np.ndarray, is_from_line: np.ndarray) -> None:
        """Take note of new episodes.

        Args:
            cars: Numbers of the cars that begin.
            tracks: Track of each car ``[B]``.
            progress_m: Where each car is ``[B]``.
            is_from_line: Which cars begin on the start line ``[B]``.
        """
        for car in cars.tolist():
            bounds = self.bounds[tracks[car]]
            self.segment[car] = np.clip(np.searchsorted(bounds, progress_m[car], side="right") - 1, 0, len(bounds) - 2)
            self.num_begun += 1
            self.begun_at[tracks[car], self.segment[car]] = self.num_begun[0]
        self.entered_ms[cars] = np.where(is_from_line[cars], 0.0, np.nan)
        self.counts_from_ms[cars] = np.where(is_from_line[cars], 0.0, SETTLED_MS)
        self.before[0, cars], self.before[1, cars] = progress_m[cars], 0.0

    def follow(self, tracks: np.ndarray, progress_m: np.ndarray, time_ms: np.ndarray, end_cause: np.ndarray) -> None:
        """Follow all cars through a step; all arguments ``[B]``.

        Args:
            tracks: Track of each car.
            progress_m: Where it is.
            time_ms: Its race time.
            end_cause: Why its episode has ended, if it has.
        """
        ends = np.array([self.bounds[track][at + 1] for track, at in zip(tracks, self.segment, strict=True)])
        is_truncated = (end_cause != EndCause.NONE) & (end_cause != EndCause.FINISHED)
        for car in np.flatnonzero((progress_m >= ends) | is_truncated).tolist():
            for at_ms in self._crossings(car, self.bounds[tracks[car]], progress_m[car], time_ms[car]):
                self._add(car, tracks[car], at_ms)
                self.entered_ms[car] = at_ms if at_ms >= self.counts_from_ms[car] else np.nan
                self.segment[car] += 1
            last = len(self.bounds[tracks[car]]) - 2
            if is_truncated[car] and self.segment[car] <= last:
                self._add(car, tracks[car], time_ms[car])  # it would have taken longer still
            self.segment[car] = min(self.segment[car], last)
        self.before[:] = progress_m, time_ms

    def _crossings(self, car: int, bounds: np.ndarray, progress_m: float, time_ms: float) -> Iterator[float]:
        """When the car crossed the ends of segments in this step."""
        before_m, before_ms = self.before[:, car]
        for end in bounds[self.segment[car] + 1 :]:
            if progress_m < end:
                return
            share = (end - before_m) / max(progress_m - before_m, 1e-6)
            yield before_ms + min(max(share, 0.0), 1.0) * (time_ms - before_ms)

    def _add(self, car: int, track: int, at_ms: float) -> None:
        """Add the time that the car has been in its segment to the segment's mean."""
        taken_s = (at_ms - self.entered_ms[car]) / 1000.0
        if not np.isnan(taken_s):
            where = track, self.segment[car]
            mean = self.mean_s[where]
            self.mean_s[where] = taken_s if np.isinf(mean) else mean + NEWEST * (taken_s - mean)

    def save(self) -> dict[str, Tensor]:
        """All that later draws depend on."""
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in _SAVED}

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Continue from a saved state."""
        for name in _SAVED:
            getattr(self, name)[:] = saved[name].numpy()


_SAVED = ("mean_s", "begun_at", "num_begun", "segment", "entered_ms", "counts_from_ms", "before")
