"""The reward of a configuration: a weight for each term, which is a number or a schedule over the frames played."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tm_torchrl.envs.rewards import (
    CloseToLine,
    Failure,
    FinalSpeed,
    Finish,
    Neoslide,
    Progress,
    RewardTerm,
    Speedslide,
    Time,
    Weight,
)
from tm_torchrl.settings.schedules import Schedule, make_schedule

TERMS: dict[str, Callable[[Weight], RewardTerm]] = {
    "time_per_ms": Time,
    "progress_per_m": Progress,
    "finish": Finish,
    "failure": Failure,
    "final_speed_s": FinalSpeed,
    "speedslide": Speedslide,
    "neoslide": Neoslide,
    "close_to_line_per_m": CloseToLine,
}
LARGEST_WEIGHT = 1e6  # float32 must hold the sum of an episode


@dataclass
class Reward:
    """Weights of the terms in ``tm_torchrl.envs.rewards``; a term whose weight is always 0 is left out.

    Args:
        time_per_ms: Reward per millisecond of race time.
        progress_per_m: Reward per metre along the reference line.
        finish: Reward for crossing the finish line.
        failure: Reward where the car is stuck, overturned, too long in the air, or out of the world.
        final_speed_s: Time for which gained speed is rewarded as if it were held.
        speedslide: Reward for sliding at the fastest sideways speed.
        neoslide: Reward for sliding at any sideways speed.
        close_to_line_per_m: Reward per metre of distance to the reference line; negative to penalise.
        further: Further terms.

    Examples:
        >>> Reward(finish=["linear", [0, 0.0], [100_000, 2.0]]).schedules()["finish"](50_000)
        1.0
        >>> [type(term).__name__ for term in Reward(finish=0.5).terms()]
        ['Time', 'Progress', 'Finish']
    """

    time_per_ms: float | Sequence[Any] = -6.0 / 5000.0
    progress_per_m: float | Sequence[Any] = 5.0 / 500.0
    finish: float | Sequence[Any] = 0.0
    failure: float | Sequence[Any] = 0.0
    final_speed_s: float | Sequence[Any] = 0.0
    speedslide: float | Sequence[Any] = 0.0
    neoslide: float | Sequence[Any] = 0.0
    close_to_line_per_m: float | Sequence[Any] = 0.0
    further: Sequence[RewardTerm] = ()

    def __post_init__(self) -> None:
        if not all(callable(term) for term in self.further):
            raise ValueError(f"further={self.further!r}: must be a list of terms, such as [{{_target_: ...}}]")
        for name in TERMS:
            if any(abs(value) > LARGEST_WEIGHT for _, value in self._schedule(name).points):
                raise ValueError(
                    f"{name}={getattr(self, name)}: must be between {-LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g}"
                )
        if not self.terms():
            raise ValueError("reward: all weights are 0; set at least one of them")

    def terms(self) -> tuple[RewardTerm, ...]:
        """The terms that an environment sums; weights on a schedule follow its ``set_frames``."""
        found = []
        for name, make in TERMS.items():
            schedule = self._schedule(name)
            if is_constant(schedule):
                if schedule(0) != 0.0:
                    found.append(make(schedule(0)))
            else:
                found.append(make(schedule))
        return (*found, *self.further)

    def schedules(self, *, speed: float = 1.0) -> dict[str, Schedule]:
        """The weights that change with the frames played.

        Args:
            speed: Multiplies the frames of all points.
        """
        found = {name: self._schedule(name, speed=speed) for name in TERMS}
        return {name: schedule for name, schedule in found.items() if not is_constant(schedule)}

    def _schedule(self, name: str, *, speed: float = 1.0) -> Schedule:
        return make_schedule(getattr(self, name), name=name, speed=speed)


def is_constant(schedule: Schedule) -> bool:
    """Whether the value never changes.

    >>> from tm_torchrl.settings.schedules import Staircase
    >>> is_constant(Staircase([(0, 2.0)])), is_constant(Staircase([(0, 2.0), (5, 1.0)]))
    (True, False)
    """
    return len({value for _, value in schedule.points}) == 1
