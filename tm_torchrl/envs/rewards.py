"""Reward terms: each a small object that turns one step into ``[B]`` floats; the reward is their sum.

Weights and constants are rulka's (``config_default.yaml``); a weight may be a function of the number of frames played.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tm_torchrl.world.layout import Layout

Weight = float | Callable[[int], float]


def weight_at(weight: Weight, num_frames: int) -> float:
    """The value of a weight after a number of frames."""
    return float(weight(num_frames)) if callable(weight) else float(weight)


@dataclass
class Step:
    """What happened in one step, for all cars: observations, progress and clock before and after it."""

    observation_before: Tensor  # [B, F]
    observation: Tensor  # [B, F]
    progress_m: Tensor  # [B] metres gained along the reference line
    elapsed_ms: Tensor  # [B] race time used; exact at the finish
    speed_before: Tensor  # [B] m/s
    speed: Tensor  # [B] m/s
    is_finished: Tensor  # bool [B]
    is_failed: Tensor  # bool [B]: stuck, overturned, too long in the air, or out of the world
    action: Tensor  # int64 [B] or [B, S]
    layout: Layout  # of the observations
    num_frames: int  # played so far

    def field(self, name: str) -> Tensor:
        """A named slice of the observation after the step."""
        return self.observation[:, self.layout[name]]


class RewardTerm(Protocol):
    """One of the terms whose sum is the reward."""

    def __call__(self, step: Step) -> Tensor:
        """The term for every car, float32 ``[B]``."""
        ...


@dataclass(frozen=True)
class Time:
    """A negative reward for every millisecond of race time."""

    per_ms: Weight = -6.0 / 5000.0

    def __call__(self, step: Step) -> Tensor:
        """``per_ms`` times the time that the step took."""
        return weight_at(self.per_ms, step.num_frames) * step.elapsed_ms


@dataclass(frozen=True)
class Progress:
    """A reward for every metre along the reference line; driving back costs the same."""

    per_m: Weight = 5.0 / 500.0

    def __call__(self, step: Step) -> Tensor:
        """``per_m`` times the metres gained."""
        return weight_at(self.per_m, step.num_frames) * step.progress_m


@dataclass(frozen=True)
class Finish:
    """A bonus for crossing the finish line."""

    bonus: Weight = 1.0

    def __call__(self, step: Step) -> Tensor:
        """``bonus`` where the car has finished."""
        return weight_at(self.bonus, step.num_frames) * step.is_finished.to(torch.float32)


@dataclass(frozen=True)
class Failure:
    """A reward, usually negative, where the episode is cut short because the car failed, and not by the time limit.

    It makes getting away from a wall worth more than waiting there, where each step costs hardly more than any other.
    """

    reward: Weight = -2.0

    def __call__(self, step: Step) -> Tensor:
        """``reward`` where the car is stuck, overturned, too long in the air, or out of the world."""
        return weight_at(self.reward, step.num_frames) * step.is_failed.to(torch.float32)


@dataclass(frozen=True)
class FinalSpeed:
    """A reward for gained speed as if it were held for some seconds; its sum over a race is the speed at the finish."""

    as_if_s: Weight = 2.0
    per_m: float = 5.0 / 500.0

    def __call__(self, step: Step) -> Tensor:
        """``per_m * as_if_s`` times the speed gained, while the car moves forward."""
        moves_forward = step.field("velocity")[:, 2] > 0.0
        gained = (step.speed - step.speed_before) * moves_forward
        return self.per_m * weight_at(self.as_if_s, step.num_frames) * gained


@dataclass(frozen=True)
class Potential:
    """Potential-based shaping (Ng et al. 1999): the potential is high near the reference line and pointing along it.

    phi = per_m * clip(distance to the current point, nearest_m, furthest_m) + pointing * (forward share - 1).
    ``gamma`` must be the learner's, or shaping changes the best policy. Do not use it together with a mini-race, which
    adds the potential itself.
    """

    gamma: float = 0.999
    per_m: float = -0.1
    nearest_m: float = 2.0
    furthest_m: float = 25.0
    pointing: float = 0.0

    def potential(self, observation: Tensor, layout: Layout) -> Tensor:
        """The potential phi of every car."""
        zones = observation[:, layout["zones_ahead"]]
        here, after = zones[:, 0:3], zones[:, 3:6]
        phi = self.per_m * here.norm(dim=1).clamp(self.nearest_m, self.furthest_m)
        if self.pointing:
            ahead = torch.nn.functional.normalize(after - here, dim=1)
            phi = phi + self.pointing * (ahead[:, 2] - 1.0)
        return phi

    def __call__(self, step: Step) -> Tensor:
        """``gamma * phi(after) - phi(before)``; phi is 0 after the finish."""
        after = self.potential(step.observation, step.layout) * ~step.is_finished
        return self.gamma * after - self.potential(step.observation_before, step.layout)


SPEEDSLIDE_KMH = (0.0, 100.0, 200.0, 300.0, 400.0, 500.0)
SPEEDSLIDE_FRICTION = (80.0, 80.0, 75.0, 67.0, 60.0, 55.0)


@dataclass(frozen=True)
class Speedslide:
    """A reward for sliding at the sideways speed that is fastest, with all wheels on the ground."""

    weight: Weight = 0.001

    def __call__(self, step: Step) -> Tensor:
        """``weight * max(0, 1 - |quality - 1|)`` with quality = (20 |sideways| - friction) / friction."""
        velocity = step.field("velocity")
        friction = _interpolate(velocity[:, 2] * 3.6, SPEEDSLIDE_KMH, SPEEDSLIDE_FRICTION)
        quality = ((20.0 * velocity[:, 0].abs() - friction) / friction).clamp(min=0.0)
        is_grounded = step.field("wheel_has_contact").amin(dim=1) > 0.5
        score = (1.0 - (quality - 1.0).abs()).clamp(min=0.0) * is_grounded
        return weight_at(self.weight, step.num_frames) * score


@dataclass(frozen=True)
class Neoslide:
    """A reward for sliding sideways at any speed from ``from_speed``."""

    weight: Weight = 0.001
    from_speed: float = 2.0  # m/s

    def __call__(self, step: Step) -> Tensor:
        """``weight`` where the car moves sideways at ``from_speed`` or faster."""
        slides = step.field("velocity")[:, 0].abs() >= self.from_speed
        return weight_at(self.weight, step.num_frames) * slides.to(torch.float32)


@dataclass(frozen=True)
class CloseToLine:
    """A negative reward for the distance to the reference line, clipped to a range."""

    weight: Weight = -0.001
    nearest_m: float = 5.0
    furthest_m: float = 25.0

    def __call__(self, step: Step) -> Tensor:
        """``weight * clip(distance, nearest_m, furthest_m)``."""
        distance = step.field("zones_ahead")[:, 0:3].norm(dim=1)
        return weight_at(self.weight, step.num_frames) * distance.clamp(self.nearest_m, self.furthest_m)


def default_reward() -> tuple[RewardTerm, ...]:
    """Linesight's reward: time and progress."""
    return (Time(), Progress())


def sum_terms(terms: Sequence[RewardTerm], step: Step) -> Tensor:
    """The reward of every car, ``[B]``."""
    total = terms[0](step)
    for term in terms[1:]:
        total = total + term(step)
    return total


def _interpolate(x: Tensor, at: Sequence[float], values: Sequence[float]) -> Tensor:
    """Piecewise linear interpolation, constant outside."""
    out = torch.full_like(x, values[0])
    for left, right, low, high in zip(at, at[1:], values, values[1:], strict=False):
        out = out + (high - low) * ((x - left) / (right - left)).clamp(0.0, 1.0)
    return out
