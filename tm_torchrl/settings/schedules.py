"""Numbers that follow the frames played: constant, linear, exponential, staircase."""

from __future__ import annotations

import bisect
import math
import sys
from collections.abc import Sequence
from typing import Any

from tm_torchrl.settings.nearest import nearest_name

Points = Sequence[tuple[float, float]]


class Schedule:
    """A number that depends on the frames played, given by points (frames, value); constant before and after them.

    Args:
        points: Points in the order of their frames.
        speed: Multiplies the frames of all points: 8 makes everything take 8 times as long, as
            ``global_schedule_speed`` in rulka.

    Examples:
        >>> Linear([(0, 1.0), (100, 0.0)])(25)
        0.75
        >>> Exponential([(0, 1.0), (100, 0.01)])(50)
        0.1
        >>> Staircase([(0, 1.0), (100, 0.5)])(99)
        1.0
    """

    def __init__(self, points: Points, *, speed: float = 1.0) -> None:
        self.points = [(float(at) * speed, float(value)) for at, value in points]
        if not self.points:
            raise ValueError(f"{type(self).__name__}(points=[]): must hold at least one point (frames, value)")
        for (before, _), (after, _) in zip(self.points[:-1], self.points[1:], strict=True):
            if after <= before:
                raise ValueError(f"points={list(points)}: frames must increase")
        for number in (number for point in self.points for number in point):
            if not math.isfinite(number):
                raise ValueError(f"points={list(points)}: {number} is not finite")

    def __call__(self, frames: int) -> float:
        """The value after a number of frames."""
        after = bisect.bisect_right(self.points, (float(frames), math.inf))
        if after == 0:
            return self.points[0][1]
        if after == len(self.points):
            return self.points[-1][1]
        (start, left), (end, right) = self.points[after - 1], self.points[after]
        return self.between(left, right, (frames - start) / (end - start))

    def between(self, left: float, right: float, share: float) -> float:
        """The value at a share of the way from one point to the next."""
        raise TypeError(f"{type(self).__name__} must define between(left, right, share)")


class Linear(Schedule):
    """Straight lines between the points."""

    def between(self, left: float, right: float, share: float) -> float:
        """The value on the line."""
        return left + (right - left) * share


class Exponential(Schedule):
    """A constant factor per frame between the points, which must be positive."""

    def __init__(self, points: Points, *, speed: float = 1.0) -> None:
        super().__init__(points, speed=speed)
        for _, value in self.points:
            if value <= 0:
                raise ValueError(f"points={list(points)}: exponential schedules need positive values, not {value}")

    def between(self, left: float, right: float, share: float) -> float:
        """The value on the exponential curve."""
        return float(left * (right / left) ** share)


class Staircase(Schedule):
    """The value of the last point reached."""

    def between(self, left: float, right: float, share: float) -> float:
        """The value of the point before."""
        return left


KINDS: dict[str, type[Schedule]] = {"linear": Linear, "exponential": Exponential, "staircase": Staircase}


def make_schedule(value: float | Schedule | Sequence[Any], *, name: str, speed: float = 1.0) -> Schedule:
    """A schedule from a setting: a number, or a list such as ``[linear, [0, 1.0], [150_000, 0.03]]``.

    Args:
        value: A number, a list of a kind and points, or a schedule, which is returned unchanged.
        name: Name of the setting, for messages.
        speed: Multiplies the frames of all points.

    Examples:
        >>> make_schedule(["linear", [0, 1.0], [100, 0.0]], name="epsilon", speed=2)(100)
        0.5
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not -sys.float_info.max <= value <= sys.float_info.max:
            raise ValueError(f"{name}={value}: must be a finite number")
        return Staircase([(0, value)])
    if isinstance(value, Sequence) and not isinstance(value, str) and value and isinstance(value[0], str):
        kind, points = value[0], value[1:]
        if kind not in KINDS:
            raise ValueError(f"{name}: no schedule {kind!r}{nearest_name(kind, KINDS)}")
        try:
            return KINDS[kind]([(at, number) for at, number in points], speed=speed)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name}={list(value)}: {error}") from None
    raise ValueError(
        f"{name}={value!r}: must be a number or a schedule, such as [linear, [0, 1.0], [150000, 0.03]] "
        f"(kinds: {', '.join(KINDS)})"
    )
