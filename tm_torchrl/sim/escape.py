"""How cars that stand at a wall or across the road come back onto it: each tries some ways to reverse.

Shapes: N cars, K plans of a car, S floats of a saved state, R floats of a tracker row, A actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tm_torchrl.sim.simulator import Simulator
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import BACKWARD, NUM_ACTIONS
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.drivers import Pursuit
from tm_torchrl.world.tracker import EndCause, Limits, Tracker

REVERSING = (4, 10, 18, 28)  # steps of 50 ms
STEERING = (0, 1, 2)  # straight, left, right
LOOK_AHEAD = 60  # steps of a plan
HELD_S = 0.5  # a plan's last speed counts as if it were held for so long
SPEED = 30.0  # m/s, which turns metres into seconds
CARS_AT_ONCE = 32  # at most
NO_LIMITS = Limits(race_s=1e6, no_progress_s=1e6, overturned_s=1e6, airborne_s=1e6)


class Escape:
    """Weighs plans for cars that are stuck: drive on at once, or reverse for a while first.

    After reversing the scripted driver drives. The best plan gets furthest along the track, and early. What counts are
    the metres at its end, their mean on the way there, and the last speed.

    Args:
        track: The track.
        num_previous_actions: Those of the tracker whose rows are given.
    """

    def __init__(self, track: Track, *, num_previous_actions: int) -> None:
        plans = [(0, 0), *((steps, steering) for steps in REVERSING for steering in STEERING)]
        self._track, self._num_previous_actions = track, num_previous_actions
        self._reversing = torch.tensor([steps for steps, _ in plans])
        self._backward = torch.tensor([BACKWARD + steering for _, steering in plans])
        self._trials: dict[int, tuple[Simulator, Tracker, Pursuit]] = {}  # by the number of their cars

    def costs(self, states: Tensor, tracker_rows: Tensor) -> Tensor:
        """What each action costs, in seconds ``[N, A]``, by the best plan that begins with it.

        Args:
            states: Saved states of the simulator ``[N, S]``.
            tracker_rows: ``[N, R]``.
        """
        parts = [slice(first, first + CARS_AT_ONCE) for first in range(0, len(states), CARS_AT_ONCE)]
        return torch.cat([self._costs(states[part], tracker_rows[part]) for part in parts])

    def _costs(self, states: Tensor, tracker_rows: Tensor) -> Tensor:
        num_plans, num_cars = len(self._reversing), 1 << (len(states) - 1).bit_length()
        world, tracker, driver = self._trial(num_cars * num_plans)
        car = torch.arange(num_cars).clamp_max(len(states) - 1).repeat_interleave(num_plans)
        reversing, backward = self._reversing.repeat(num_cars), self._backward.repeat(num_cars)
        world.restore(states[car])
        tracker.restore(tracker_rows[car])
        begin, firsts = tracker["progress_m"].clone(), torch.zeros(0)
        mean = torch.zeros_like(begin)
        for step in range(LOOK_AHEAD):
            actions = torch.where(step < reversing, backward, driver(world.rows(), tracker))
            firsts = actions if step == 0 else firsts
            world.step(actions)
            tracker.update(actions)
            mean += tracker["progress_m"] / LOOK_AHEAD
        speed = world.rows()[:, CAR_ROW["velocity"]].norm(dim=1) * (tracker["end_cause"] == EndCause.NONE)
        gained_s = (tracker["progress_m"] + mean - 2.0 * begin + HELD_S * speed) / SPEED
        return cheapest(firsts.view(num_cars, -1), -gained_s.view(num_cars, -1))[: len(states)]

    def _trial(self, num_cars: int) -> tuple[Simulator, Tracker, Pursuit]:
        """A simulator of so many cars; sizes are powers of two times the plans, so there are few."""
        if num_cars not in self._trials:
            world = Simulator(self._track, num_cars=num_cars)
            tracker = Tracker(world, num_previous_actions=self._num_previous_actions, limits=NO_LIMITS)
            self._trials[num_cars] = world, tracker, Pursuit([self._track], world.track_index)
        return self._trials[num_cars]


def cheapest(firsts: Tensor, costs: Tensor) -> Tensor:
    """What each action costs by the cheapest plan that begins with it ``[N, A]``; infinitely much if none does.

    Args:
        firsts: The first action of each plan ``[N, K]``.
        costs: The cost of each plan ``[N, K]``.

    Examples:
        >>> cheapest(torch.tensor([[0, 3, 0]]), torch.tensor([[0.5, 0.25, 0.125]]))[0, :4]
        tensor([0.1250,    inf,    inf, 0.2500])
    """
    found = costs.new_full((len(costs), NUM_ACTIONS), torch.inf)
    return found.scatter_reduce(1, firsts, costs.nan_to_num(nan=torch.inf), "amin")
