"""Search for the fastest lap: a beam of cars that starts from the same place and keeps the best of each kind.

All cars of the beam are at the same race time. Each is copied; every copy keeps its last action for a while and then
changes to a random one. Of the cars that then drive alike (same place across the road, direction, slip and speed) only
the furthest goes on. So cars that are slower but better placed survive until the corner where that pays off.
The first time that any car of the beam crosses the finish line is the best that this pass can find. The best lap so
far drives along in every pass, and half of the other cars try what it did where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.sim.simulator import Simulator
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import FORWARD
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.drivers import Replay, drive
from tm_torchrl.world.end_cause import EndCause
from tm_torchrl.world.tracker import Limits, Tracker

ACTION_WEIGHTS = (4.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.5, 1.0, 1.0, 0.3, 0.5, 0.5)  # gas often, gas and brake rarely
KIND_WIDTHS = (1.0, 0.10, 0.20, 1.5)  # across the road in m, direction and slip in rad, speed in m/s
MAX_RACE_S = 300.0
MAX_LAG_M = 45.0  # cars further behind the furthest one are dropped
RECORDED_LIMITS = Limits(race_s=MAX_RACE_S, no_progress_s=30.0)
COASTING_STEPS = 20  # a recorded lap may end this many steps before the finish line; the car then holds the gas


@dataclass(frozen=True)
class Lap:
    """A lap and how to drive it.

    Args:
        time_s: Race time at the finish.
        actions: One action index per 50 ms.
    """

    time_s: float
    actions: np.ndarray


class Guide:
    """Looks up what a lap's driver did at each place of the track.

    Args:
        track: The track that the lap was driven on.
        lap: The lap whose actions to look up.
    """

    def __init__(self, track: Track, lap: Lap) -> None:
        self.actions = torch.from_numpy(lap.actions.astype(np.int64))
        race = drive(Simulator(track, num_cars=1), Replay(lap.actions), limits=RECORDED_LIMITS)
        progress = [tracker["progress_m"].item() for tracker in islice(race, len(self.actions))]
        self._progress = torch.cummax(torch.tensor(progress), 0).values

    def plans(self, progress_m: Tensor, shift: Tensor, hold: int) -> Tensor:
        """The lap's next ``hold`` actions for cars at these places, ``shift`` steps ahead of the lap, ``[B, hold]``."""
        now = torch.searchsorted(self._progress, progress_m.contiguous(), right=True) - 1
        step = (now + shift).unsqueeze(1) + torch.arange(hold)
        return self.actions[step.clamp(0, len(self.actions) - 1)]


def replay_lap(track: Track, actions: np.ndarray) -> Lap | None:
    """Drive recorded actions from a standing start; None if they do not finish."""
    played = np.append(actions, [FORWARD] * COASTING_STEPS).astype(np.int8)
    race = drive(Simulator(track, num_cars=1), Replay(played), limits=RECORDED_LIMITS)
    for step, tracker in enumerate(islice(race, len(played) + 1)):
        if tracker["end_cause"].item() == EndCause.FINISHED:
            return Lap(tracker["race_time_ms"].item() / 1000.0, played[:step])
    return None


class LapSearch:
    """Repeated beam passes over one track.

    Args:
        track: The track to search on.
        num_cars: How many cars are simulated at once.
        copies: How many copies of each surviving car go on, each with its own next actions.
        seed: Seeds the random choices.
        num_previous_actions: How many past actions the tracker remembers.

    Attributes:
        holds: 50 ms steps between two selections, pass by pass.
    """

    holds = (3, 4, 3, 2)

    def __init__(
        self, track: Track, *, num_cars: int = 8192, copies: int = 5, seed: int = 0, num_previous_actions: int = 1
    ) -> None:
        if num_cars < 16 * copies:
            raise ValueError(f"num_cars={num_cars}: must be at least {16 * copies} with copies={copies}")
        self.track = track
        self.copies = copies
        self.num_cars = num_cars
        self.world = Simulator(track, num_cars=num_cars)
        self.tracker = Tracker(
            self.world, num_previous_actions=num_previous_actions, limits=Limits(no_progress_s=3.0, overturned_s=0.5)
        )
        self._generator = torch.Generator().manual_seed(seed)
        centres = torch.tensor(track.zones.centers)
        ahead = torch.roll(centres, -4, 0) - torch.roll(centres, 4, 0)
        self._centres = centres
        self._ahead = torch.nn.functional.normalize(ahead[:, (0, 2)], dim=1)
        self._weights = torch.tensor(ACTION_WEIGHTS)
        self._rows = self.world.rows()

    def run_pass(self, best: Lap | None, *, hold: int = 3, guided: float = 0.5) -> Lap | None:
        """Run one beam from the start line to the finish; returns a lap that is faster than ``best``, or None.

        Args:
            best: The fastest lap so far, which drives along.
            hold: How many 50 ms steps lie between two selections.
            guided: Share of the cars that try what the best lap did where they are.
        """
        self.tracker.reset(self.world.reset(), torch.ones(self.num_cars, dtype=torch.bool))
        alive = torch.zeros(1, dtype=torch.int64)
        last_action = torch.full((self.num_cars,), FORWARD)
        lineage: list[tuple[Tensor, Tensor]] = []
        guide = None if best is None else Guide(self.track, best)
        best_actions = None if best is None else torch.from_numpy(best.actions.astype(np.int64))
        limit_steps = int((MAX_RACE_S if best is None else best.time_s) / 0.05) + 1
        for step in range(0, limit_steps, hold):
            copies = max(self.copies, self.num_cars // len(alive))  # more while the beam is still small
            parents = alive.repeat_interleave(copies)[: self.num_cars]
            parents = torch.cat([parents, alive[:1].expand(self.num_cars - len(parents))])
            plan = self._draw_plans(last_action[parents], hold)
            if guide is not None:
                shift = torch.randint(-1, 3, (self.num_cars,), generator=self._generator)
                follows = torch.rand(self.num_cars, 1, generator=self._generator) < guided
                plan = torch.where(follows, guide.plans(self.tracker["progress_m"][parents], shift, hold), plan)
            if best_actions is not None:
                parents[0] = alive[0]  # the best lap's own car always stands first
                plan[0] = _padded(best_actions[step : step + hold], hold)
            self.world.restore(self.world.save()[parents])
            self.tracker.restore(self.tracker.save()[parents])
            for k in range(hold):
                is_over = self.tracker["end_cause"] != EndCause.NONE
                ended = self.tracker.rows[is_over]
                plan[:, k] = self._choose(plan[:, k])
                self.world.step(plan[:, k])
                self.tracker.update(plan[:, k])
                self.tracker.rows[is_over] = ended
            lineage.append((parents, plan.to(torch.int8)))
            last_action = plan[:, -1]
            finished = self.tracker["end_cause"] == EndCause.FINISHED
            if finished.any():
                return self._best_finish(finished, lineage, best)
            alive = self._select(keep_first=best_actions is not None)
            if len(alive) == 0:
                return None
        return None

    def _draw_plans(self, last_action: Tensor, hold: int) -> Tensor:
        """Each car's last action up to a random step, then a random action, ``[B, hold]``."""
        num = len(last_action)
        change = torch.randint(hold + 1, (num, 1), generator=self._generator)
        return torch.where(torch.arange(hold) < change, last_action.unsqueeze(1), self._draw_actions(num))

    def _draw_actions(self, num: int) -> Tensor:
        """A random action for each car, ``[B, 1]``."""
        return torch.multinomial(self._weights, num, replacement=True, generator=self._generator).unsqueeze(1)

    def _choose(self, planned: Tensor) -> Tensor:
        """The actions of the next 50 ms, given those of the plan, ``[B]``."""
        return planned

    def _select(self, *, keep_first: bool) -> Tensor:
        """Indices of the cars that go on: the furthest of each kind."""
        progress = self.tracker["progress_m"]
        kind = self._draw_kinds()
        drives = self.tracker["end_cause"] == EndCause.NONE
        furthest = progress.where(drives, -torch.inf).max()
        candidates = torch.nonzero(drives & (progress > furthest - MAX_LAG_M)).view(-1)
        order = candidates[torch.argsort(progress[candidates], descending=True)]
        order = order[torch.argsort(kind[order], stable=True)]
        is_first = torch.ones(len(order), dtype=torch.bool)
        is_first[1:] = kind[order][1:] != kind[order][:-1]
        kept = self._limited(order[is_first])
        if keep_first:
            kept = torch.cat([torch.zeros(1, dtype=torch.int64), kept[kept != 0]])
        return kept

    def _limited(self, cars: Tensor) -> Tensor:
        """As many of the cars as there is room for: the furthest."""
        room = self.num_cars // self.copies
        if len(cars) > room:
            cars = cars[torch.argsort(self.tracker["progress_m"][cars], descending=True)[:room]]
        return cars

    def _draw_kinds(self) -> Tensor:
        """A number for each car, equal for those that drive alike, ``[B]``."""
        zone = self.tracker["zone"].long()
        offset = self._rows[:, CAR_ROW["position"]] - self._centres[zone]
        ahead = self._ahead[zone]
        velocity = self._rows[:, CAR_ROW["velocity"]]
        rotation = self._rows[:, CAR_ROW["rotation"]]
        lateral = offset[:, 0] * ahead[:, 1] - offset[:, 2] * ahead[:, 0]
        heading = _angle(velocity[:, 0], velocity[:, 2], ahead)
        slip = _angle(rotation[:, 2], rotation[:, 8], ahead) - heading
        speed = velocity.norm(dim=1)
        # The bounds between kinds are drawn for each selection; otherwise cars at a bound would always lose.
        shift = torch.rand(4, generator=self._generator)
        marks = torch.stack([lateral, heading, slip, speed]) / torch.tensor(KIND_WIDTHS).unsqueeze(1)
        cell = (marks + shift.unsqueeze(1)).floor().long()
        kind = cell[0].clamp(-63, 64) + 63
        kind = kind * 64 + cell[1].clamp(-31, 32) + 31
        kind = kind * 16 + cell[2].clamp(-7, 8) + 7
        kind = kind * 256 + cell[3].clamp(0, 255)
        return kind * 2 + (velocity[:, 1] > 2.0)

    def _best_finish(self, finished: Tensor, lineage: list[tuple[Tensor, Tensor]], best: Lap | None) -> Lap | None:
        """The lap of the fastest car that finished, traced back to its start, if it is faster than the best lap."""
        time = torch.where(finished, self.tracker["race_time_ms"], torch.inf)
        car = int(time.argmin())
        pieces = []
        for parents, plan in reversed(lineage):
            pieces.append(plan[car].numpy())
            car = int(parents[car])
        lap = replay_lap(self.track, np.concatenate(pieces[::-1]))
        return lap if lap is not None and (best is None or lap.time_s < best.time_s) else None


def _padded(actions: Tensor, length: int) -> Tensor:
    return torch.cat([actions, actions.new_full((length - len(actions),), FORWARD)])


def _angle(x: Tensor, z: Tensor, ahead: Tensor) -> Tensor:
    """Signed angle from the road's direction to another, left positive."""
    across = x * ahead[:, 1] - z * ahead[:, 0]
    along = x * ahead[:, 0] + z * ahead[:, 1]
    return torch.atan2(across, along)
