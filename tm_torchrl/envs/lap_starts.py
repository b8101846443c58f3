"""``LapStarts``: the laps on which training episodes may begin, and where along them the cars lose time.

Segments are scored by the time that cars lose in them against the lap, and drawn by rank and staleness as in prioritised
level replay (Jiang et al. 2021). Shapes: B cars, T tracks, G segments of the longest track, K states of a lap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.sim.lap_states import CAPACITY
from tm_torchrl.sim.simulator import Simulator
from tm_torchrl.sim.state import STATE
from tm_torchrl.tracks import Track
from tm_torchrl.tracks.medals import author_actions
from tm_torchrl.world.actions import TICKS_PER_ACTION
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.tracker import EndCause, Limits, Tracker

SEGMENT_M = 50.0
LEAD_STEPS = 40  # an episode begins at most two seconds before the segment that was drawn
STALENESS = 0.1  # share of the draws that goes by how long ago episodes began there; Jiang et al. 2021
NEWEST = 0.1  # weight of a new measurement in the mean of a segment
SETTLED_MS = 3000.0  # before, a start that was slow or askew still costs time
LINE_M, LINE_SPEED = 1.0, 2.5  # an episode that begins within these, in m and m/s, begins on the start line
DRIVEN_AGAIN = Limits(race_s=300.0, no_progress_s=30.0)


@dataclass
class DrivenLap:
    """A lap as the simulator drives it again.

    Args:
        time_s: Race time at the finish.
        actions: ``[K]``, or ``[K, 5]`` with one per tick.
        start: The simulator's state at its start ``[S]``.
        states: The states before each action ``[K, S]``.
        zones: The zone of each state, int32 ``[K]``.
        progress_m: Metres along the track of each state, never falling ``[K]``.
    """

    time_s: float
    actions: np.ndarray
    start: Tensor
    states: Tensor
    zones: Tensor
    progress_m: np.ndarray


def drive_again(track: Track, actions: np.ndarray, start: Tensor | None = None) -> DrivenLap | None:
    """Drive a lap's actions and keep its states; ``None`` if they do not finish.

    Args:
        track: The track.
        actions: ``[K]``, or ``[K, 5]`` with one per tick.
        start: The simulator's state at the start; at rest on the start line by default.
    """
    world = Simulator(track, num_cars=1)
    tracker = Tracker(world, limits=DRIVEN_AGAIN)
    zone = world.reset()
    if start is not None:
        world.restore(start.cpu().unsqueeze(0).index_fill(1, torch.tensor(STATE.start("track")), 0.0))
    tracker.reset(zone, torch.ones(1, dtype=torch.bool))
    first = world.save()[0]
    states, zones, progress = [], [], []
    for action in torch.from_numpy(actions.astype(np.int64)).unsqueeze(1):
        states.append(world.save()[0])
        zones.append(int(tracker["zone"]))
        progress.append(float(tracker["progress_m"]))
        world.step(action)
        tracker.update(action)
        if tracker["end_cause"] == EndCause.FINISHED:
            return DrivenLap(
                time_s=float(tracker["race_time_ms"]) / 1000.0,
                actions=actions[: len(states)],
                start=first,
                states=torch.stack(states),
                zones=torch.tensor(zones, dtype=torch.int32),
                progress_m=np.maximum.accumulate(progress),
            )
    return None


class LapStarts:
    """Keeps a lap of each track in the simulator's ``lap_states``, and the chances of its states.

    Args:
        world: The simulator, whose ``starts`` use laps.
        tracker: Follows its cars.
        block: Actions of a step.
    """

    def __init__(self, world: Simulator, tracker: Tracker, *, block: int = 1) -> None:
        self.world, self.tracker = world, tracker
        num, tracks = world.num_cars, world.tracks
        self.is_scoring = world.starts.lost_time > 0.0
        self.keeps_own = world.starts.laps == "own"
        self.laps: list[DrivenLap | None] = [None] * len(tracks)
        lengths = [float(length) for length in tracker.zones.finish_distance.numpy()]
        self._bounds = [np.append(np.arange(max(1, int(each / SEGMENT_M))) * SEGMENT_M, each) for each in lengths]
        num_segments = max(len(bounds) for bounds in self._bounds) - 1
        self._lap_times: list[np.ndarray] = [np.zeros(0)] * len(tracks)  # seconds that the lap takes in each segment
        self._windows: list[Tensor] = [torch.zeros(0)] * len(tracks)
        self.lost_s = np.full((len(tracks), num_segments), np.inf)  # mean; infinite before the first measurement
        self._begun_at = np.zeros((len(tracks), num_segments))  # number of the last episode that began there
        self._num_begun = 0
        self._segment = np.zeros(num, np.int64)
        self._entered_ms = np.full(num, np.nan)  # when the car entered its segment; NaN if it began inside
        self._before = np.zeros((2, num))  # progress and race time one step ago
        self._counts_from_ms = np.zeros(num)
        shape = (num, CAPACITY) if block == 1 else (num, CAPACITY, TICKS_PER_ACTION)
        self._actions = np.zeros(shape if self.keeps_own else (0,), np.uint8)
        self._num_steps = np.zeros(num, np.int64)
        self._is_from_line = np.zeros(num, bool)
        self._starts = torch.zeros(num if self.keeps_own else 0, STATE.size)
        if not self.keeps_own:
            for number, track in enumerate(tracks):
                self._set_lap(number, author_lap(track))

    def _set_lap(self, number: int, lap: DrivenLap) -> None:
        """Begin episodes on this lap from now on, and measure against it."""
        bounds = self._bounds[number]
        self.laps[number] = lap
        self.world.lap_states.set_lap(number, lap.states, lap.zones)
        at = np.interp(bounds, np.append(lap.progress_m, bounds[-1]), np.append(lap_clock(lap), lap.time_s))
        self._lap_times[number] = np.diff(at)
        first = np.searchsorted(lap.progress_m, bounds)
        step = torch.arange(len(lap.states))
        begin, end = (torch.from_numpy(each).unsqueeze(1) for each in (first[:-1] - LEAD_STEPS, first[1:]))
        window = ((step >= begin) & (step < end)).double()
        self._windows[number] = window / window.sum(1, keepdim=True).clamp_min(1.0)

    def prepare(self) -> None:
        """Set the chances of the lap's states, before cars are reset."""
        if not self.is_scoring:
            return
        for number, lap in enumerate(self.laps):
            if lap is None:
                continue
            chances = torch.from_numpy(self.segment_chances(number))
            self.world.lap_states.set_chances(number, chances @ self._windows[number])

    def segment_chances(self, number: int) -> np.ndarray:
        """How often each segment of a track is drawn: by its rank in lost time, or by how long ago it was begun."""
        num = len(self._bounds[number]) - 1
        order = np.argsort(-self.lost_s[number, :num], kind="stable")
        by_rank = np.empty(num)
        by_rank[order] = 1.0 / np.arange(1, num + 1)
        age = self._num_begun - self._begun_at[number, :num] + 1.0
        return (1.0 - STALENESS) * by_rank / by_rank.sum() + STALENESS * age / age.sum()

    def begin(self, mask: Tensor) -> None:
        """Take note of the episodes that the masked cars have begun."""
        cars = np.flatnonzero(mask.cpu().numpy())
        tracks, progress, time_ms, _ = self._read()
        rows = self.world.rows()
        is_slow = rows[:, CAR_ROW["velocity"]].norm(dim=1).cpu().numpy() <= LINE_SPEED
        self._is_from_line[cars] = (is_slow & (np.abs(progress) <= LINE_M))[cars]
        self._num_steps[cars] = 0
        if self.keeps_own:
            self._starts[cars] = self.world.save().cpu()[cars]
        for car in cars.tolist():
            bounds = self._bounds[tracks[car]]
            segment = int(np.clip(np.searchsorted(bounds, progress[car], side="right") - 1, 0, len(bounds) - 2))
            self._segment[car] = segment
            self._num_begun += 1
            self._begun_at[tracks[car], segment] = self._num_begun
        self._entered_ms[cars] = np.where(self._is_from_line[cars], time_ms[cars], np.nan)
        self._counts_from_ms[cars] = np.where(self._is_from_line[cars], 0.0, SETTLED_MS)
        self._before[:, cars] = progress[cars], time_ms[cars]

    def follow(self, actions: Tensor) -> None:
        """Follow the cars through a step in which these actions were played."""
        tracks, progress, time_ms, causes = self._read()
        if self.is_scoring:
            self._score(tracks, progress, time_ms, causes)
        self._before[:] = progress, time_ms
        if self.keeps_own:
            self._keep(actions, tracks, time_ms, causes)

    def _read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Number of the track, progress, race time and cause of end of each car."""
        columns = (self.tracker[name].cpu().numpy() for name in ("progress_m", "race_time_ms", "end_cause"))
        return self.world.track_index.cpu().numpy(), *(column.astype(np.float64) for column in columns)

    def _score(self, tracks: np.ndarray, progress: np.ndarray, time_ms: np.ndarray, causes: np.ndarray) -> None:
        ends = np.array([self._bounds[track][segment + 1] for track, segment in zip(tracks, self._segment, strict=True)])
        is_truncated = (causes != EndCause.NONE) & (causes != EndCause.FINISHED)
        for car in np.flatnonzero((progress >= ends) | is_truncated).tolist():
            track = int(tracks[car])
            bounds, before, since_ms = self._bounds[track], self._before[0, car], self._before[1, car]
            while self._segment[car] < len(bounds) - 1 and progress[car] >= bounds[self._segment[car] + 1]:
                share = (bounds[self._segment[car] + 1] - before) / max(progress[car] - before, 1e-6)
                at_ms = since_ms + min(max(share, 0.0), 1.0) * (time_ms[car] - since_ms)
                self._add(car, track, at_ms)
                self._segment[car] += 1
                self._entered_ms[car] = at_ms if at_ms >= self._counts_from_ms[car] else np.nan
            if is_truncated[car] and self._segment[car] < len(bounds) - 1:
                self._add(car, track, time_ms[car])  # it would have taken longer still
            self._segment[car] = min(self._segment[car], len(bounds) - 2)

    def _add(self, car: int, track: int, at_ms: float) -> None:
        """Add to the mean of the car's segment the time that it has lost there up to now."""
        segment = self._segment[car]
        if self.laps[track] is None or np.isnan(self._entered_ms[car]):
            return
        lost_s = (at_ms - self._entered_ms[car]) / 1000.0 - self._lap_times[track][segment]
        mean = self.lost_s[track, segment]
        self.lost_s[track, segment] = lost_s if np.isinf(mean) else mean + NEWEST * (lost_s - mean)

    def _keep(self, actions: Tensor, tracks: np.ndarray, time_ms: np.ndarray, causes: np.ndarray) -> None:
        """Keep what was played, and the fastest lap of each track from the start line."""
        played = np.minimum(self._num_steps, CAPACITY - 1)
        self._actions[np.arange(len(played)), played] = actions.cpu().numpy()
        self._num_steps += 1
        finished = (causes == EndCause.FINISHED) & self._is_from_line & (self._num_steps <= CAPACITY)
        for car in sorted(np.flatnonzero(finished).tolist(), key=lambda each: time_ms[each]):
            number = int(tracks[car])
            best = self.laps[number]
            if best is None or time_ms[car] / 1000.0 < best.time_s:
                lap = drive_again(
                    self.world.tracks[number], self._actions[car, : self._num_steps[car]].copy(), self._starts[car]
                )
                if lap is not None:
                    self._set_lap(number, lap)

    def save(self) -> dict[str, Any]:
        """What the starts of later episodes depend on; own laps as their actions, which are driven again."""
        own = [lap if self.keeps_own else None for lap in self.laps]
        tensors = {name: torch.from_numpy(getattr(self, name).copy()) for name in _SAVED}
        return {
            **tensors,
            "num_begun": self._num_begun,
            "starts": self._starts.clone(),
            "laps": [
                {} if lap is None else {"actions": torch.from_numpy(lap.actions.copy()), "start": lap.start.clone()}
                for lap in own
            ],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for name in _SAVED:
            getattr(self, name)[:] = saved[name].numpy()
        self._num_begun = saved["num_begun"]
        self._starts.copy_(saved["starts"])
        for number, lap in enumerate(saved["laps"]):
            if lap:
                again = drive_again(self.world.tracks[number], lap["actions"].numpy(), lap["start"])
                if again is not None:
                    self._set_lap(number, again)


_SAVED = (
    "lost_s",
    "_begun_at",
    "_segment",
    "_entered_ms",
    "_before",
    "_counts_from_ms",
    "_actions",
    "_num_steps",
    "_is_from_line",
)


def lap_clock(lap: DrivenLap) -> np.ndarray:
    """Race time of each state of a lap, in seconds."""
    return lap.states[:, STATE.start("race_time_ms")].double().numpy() / 1000.0


def author_lap(track: Track) -> DrivenLap:
    """The author's lap of a track; raises ``ValueError`` if it has none."""
    actions = author_actions(track.name)
    lap = None if actions is None else drive_again(track, actions)
    if lap is None:
        raise ValueError(f"starts: laps='author': track {track.name!r} has no author lap; use laps='own'")
    return lap
