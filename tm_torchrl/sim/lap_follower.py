"""A driver that follows a recorded lap from wherever a car is: author laps from other starts, and after disturbances.

Recorded inputs alone leave the road within seconds after any other start. This driver looks ahead instead: each car
tries some plans in a second simulator, and takes the first action of the one that ends nearest to the lap.
Shapes: B cars, K plans of a car, H steps of a plan, W steps of the lap that a plan may end near, A actions.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.sim.escape import Escape, cheapest
from tm_torchrl.sim.search import RECORDED_LIMITS, Lap
from tm_torchrl.sim.simulator import Simulator
from tm_torchrl.world.actions import FORWARD
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.drivers import Replay, drive
from tm_torchrl.world.tracker import EndCause, Tracker

STEP_S = 0.05
SHIFTS = (-1, 0, 1, 2)  # steps by which a plan is ahead of what the lap's driver did at this place
FIRST_ACTIONS = (0, 1, 2, 3, 4, 5, 6, 7, 8)  # all but gas and brake together
HOLDS = (1, 2, 4)  # steps for which a plan holds its first action before it does what the lap's driver did
REACH = 8  # steps before and after the expected one that a plan may end near
# What an error at the end of a plan costs, in seconds.
METRE_BESIDE = 0.02  # squared
METRE_PER_SECOND = 0.002  # squared, of the difference of velocities
RADIAN = 0.5  # squared
RADIAN_PER_SECOND = 0.01  # squared
MIN_SPEED = 5.0  # m/s; below, the time that a distance takes says little
STUCK_SPEED, LAP_SPEED = 6.0, 20.0  # m/s: a car that is slower along a lap that is faster here has to get away first


class LapFollower:
    """Drives like a recorded lap, also from other places, at other speeds, after disturbances and away from walls.

    Args:
        world: The simulator that the cars drive in, with one track.
        lap: The lap to follow, from a standing start.
        num_steps: H, how far the plans look ahead, in steps of 50 ms; those of a car that is stuck look further.
    """

    def __init__(self, world: Simulator, lap: Lap, *, num_steps: int = 10) -> None:
        if len(world.tracks) != 1:
            raise ValueError(f"world: has {len(world.tracks)} tracks; must have one, that of the lap")
        if num_steps < 1:
            raise ValueError(f"num_steps={num_steps}: must be at least 1")
        track = world.tracks[0]
        self._world = world
        self._num_steps = num_steps
        self._actions, self._progress, rows = _driven(Simulator(track, num_cars=1), lap, more=num_steps + REACH)
        velocity, nose = rows[:, CAR_ROW["velocity"]], rows[:, CAR_ROW["rotation"]][:, 2::3]
        self._position = rows[:, CAR_ROW["position"]]
        self._ahead = torch.nn.functional.normalize(velocity + nose, dim=1)  # the nose's direction at rest
        self._speed = velocity.norm(dim=1).clamp_min(MIN_SPEED)
        self._motion = _motion(rows)
        holds = torch.tensor([0] * len(SHIFTS) + [hold for hold in HOLDS for _ in FIRST_ACTIONS])
        self._is_held = torch.arange(num_steps) < holds.unsqueeze(1)  # [K, H]
        self._first = torch.tensor([FORWARD] * len(SHIFTS) + list(FIRST_ACTIONS) * len(HOLDS)).unsqueeze(1)
        shifts = torch.tensor(list(SHIFTS) + [0] * (len(holds) - len(SHIFTS)))
        self._steps = shifts.unsqueeze(1) + torch.arange(num_steps)  # of the lap, from the present one on
        self._trial = Simulator(track, num_cars=world.num_cars * len(holds))
        self._escape: Escape | None = None

    def __call__(self, rows: Tensor, tracker: Tracker) -> Tensor:
        """The first action of each car's best plan."""
        return self.costs(rows, tracker).argmin(1)

    def costs(self, rows: Tensor, tracker: Tracker) -> Tensor:
        """What each action costs by the best plan that begins with it, in seconds ``[B, A]``; only differences count.

        An action that no plan begins with costs infinitely much.
        """
        now = torch.searchsorted(self._progress, tracker["progress_m"].contiguous(), right=True) - 1
        now = now.clamp_min(0)
        found = self._costs_by_lap(now)
        along = (rows[:, CAR_ROW["velocity"]] * self._ahead[now]).sum(1)
        is_stuck = (along < STUCK_SPEED) & (self._speed[now] > LAP_SPEED) & (tracker["end_cause"] == EndCause.NONE)
        if is_stuck.any():
            if self._escape is None:
                track = self._world.tracks[0]
                self._escape = Escape(track, num_previous_actions=tracker.num_previous_actions)
            found[is_stuck] = self._escape.costs(self._world.save()[is_stuck], tracker.save()[is_stuck])
        return found

    def _costs_by_lap(self, now: Tensor) -> Tensor:
        """By plans that end near the lap, from these steps of it ``[B]`` on."""
        num_plans = len(self._steps)
        steps = (now.view(-1, 1, 1) + self._steps).clamp(0, len(self._actions) - 1)
        plans = torch.where(self._is_held, self._first, self._actions[steps])  # [B, K, H]
        self._trial.restore(self._world.save().repeat_interleave(num_plans, 0))
        for actions in plans.flatten(0, 1).unbind(1):
            self._trial.step(actions)
        cost = self._cost(self._trial.rows(), now.repeat_interleave(num_plans))
        return cheapest(plans[:, :, 0], cost.view(-1, num_plans))

    def _cost(self, rows: Tensor, now: Tensor) -> Tensor:
        """Seconds behind the lap, and what other errors cost, of cars whose plans began near these steps of the lap."""
        window = now.unsqueeze(1) + self._num_steps + torch.arange(-REACH, REACH + 1)
        window = window.clamp(0, len(self._position) - 1)
        offset = rows[:, CAR_ROW["position"]].unsqueeze(1) - self._position[window]  # [B * K, W, 3]
        nearest = offset.square().sum(2).argmin(1)
        step = window.gather(1, nearest.unsqueeze(1)).squeeze(1)
        offset = offset[torch.arange(len(offset)), nearest]
        along = (offset * self._ahead[step]).sum(1)
        beside = offset.square().sum(1) - along.square()
        gained = (step - now) * STEP_S + along / self._speed[step]
        return METRE_BESIDE * beside + (_motion(rows) - self._motion[step]).square().sum(1) - gained


def _driven(world: Simulator, lap: Lap, *, more: int) -> tuple[Tensor, Tensor, Tensor]:
    """Actions of a lap, its furthest progress before each of them, and car rows, also some beyond the finish."""
    actions = torch.from_numpy(np.append(lap.actions, [FORWARD] * more).astype(np.int64))
    rows, progress = [], []
    for tracker in islice(drive(world, Replay(actions.numpy()), limits=RECORDED_LIMITS), len(lap.actions) + 1):
        rows.append(world.rows()[0].clone())
        progress.append(tracker["progress_m"].item())
    for action in actions[len(rows) - 1 :].tolist():
        world.step(torch.tensor([action]))
        rows.append(world.rows()[0].clone())
    return actions, torch.cummax(torch.tensor(progress), 0).values, torch.stack(rows)


def _motion(rows: Tensor) -> Tensor:
    """Velocity, rotation and turn rates, scaled so that a squared difference is a cost in seconds."""
    velocity, rotation, turning = (rows[:, CAR_ROW[name]] for name in ("velocity", "rotation", "angular_velocity"))
    # The squared difference of two rotations' entries is twice the square of the small angle between them.
    scales = (METRE_PER_SECOND, RADIAN / 2.0, RADIAN_PER_SECOND)
    return torch.cat([part * scale**0.5 for part, scale in zip((velocity, rotation, turning), scales, strict=True)], 1)
