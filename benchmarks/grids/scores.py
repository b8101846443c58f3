"""Numbers over the suite's runs: final scores, areas, probability of improvement, profiles, frames to a threshold.

Intervals are 95 % bootstrap intervals; runs are drawn again separately for each environment (Agarwal et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tm_torchrl.evaluation import bootstrap_interval, interquartile_mean
from tm_torchrl.evaluation import statistics as over_runs

ENOUGH_RUNS = 5  # for a judgement of who learns better
LAST_SHARE = 0.2  # of the evaluations, over which a final score is the mean
RESAMPLES = 2_000

Row = Mapping[str, Any]
Curves = Sequence[Row]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, which is NaN for a single run."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        """``0.52 [0.41, 0.60]``.

        >>> Estimate(0.5, 0.25, 0.75).text()
        '0.50 [0.25, 0.75]'
        >>> estimate([0.5]).text()
        '0.50'
        """
        if math.isnan(self.low):
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def runs_of(curves: Curves, algorithm: str) -> dict[int, list[Row]]:
    """The evaluations of an algorithm's runs in their order, by seed."""
    found: dict[int, list[Row]] = {}
    for row in curves:
        if row["algorithm"] == algorithm:
            found.setdefault(row["seed"], []).append(row)
    return {seed: sorted(rows, key=lambda row: row["frames"]) for seed, rows in sorted(found.items())}


def final_of(rows: Sequence[Row], key: str = "score") -> float | None:
    """The mean of the last fifth of a run's evaluations, over those that have the number.

    >>> final_of([{"score": score} for score in (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0)])
    1.5
    """
    last = rows[-max(1, round(LAST_SHARE * len(rows))) :]
    values = [row[key] for row in last if row.get(key) is not None]
    return sum(values) / len(values) if values else None


def finals(curves: Curves, algorithm: str, *, key: str = "score") -> list[float]:
    """The final value of each run, in the order of seeds."""
    found = [final_of(rows, key) for rows in runs_of(curves, algorithm).values()]
    return [value for value in found if value is not None]


def areas(curves: Curves, algorithm: str) -> list[float]:
    """The mean score over all evaluations of each run: the area under its curve."""
    return [sum(row["score"] for row in rows) / len(rows) for rows in runs_of(curves, algorithm).values()]


def estimate(values: Sequence[float], *, num_resamples: int | None = None) -> Estimate:
    """The interquartile mean."""
    if len(values) == 1:
        return Estimate(values[0], math.nan, math.nan)
    return Estimate(interquartile_mean(values), *bootstrap_interval(values, num_resamples=num_resamples or RESAMPLES))


def over_environments(scores: Sequence[Sequence[float]]) -> Estimate:
    """The interquartile mean over equally many runs of several environments."""
    num = min(map(len, scores))
    table = np.array(as_many_of_each(scores)).reshape(-1, num).T
    return Estimate(interquartile_mean(table), *bootstrap_interval(table, num_resamples=RESAMPLES))


def as_many_of_each(scores: Sequence[Sequence[float]]) -> list[float]:
    """The first scores of each environment in one list, equally many of each, so that none weighs more.

    >>> as_many_of_each([[1.0, 2.0, 3.0], [4.0, 5.0]])
    [1.0, 2.0, 4.0, 5.0]
    """
    num = min(map(len, scores))
    return [score for each in scores for score in each[:num]]


def probability_of_improvement(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Estimate:
    """Probability that a run of ours is better than one of theirs, the mean over environments."""
    return Estimate(*over_runs.probability_of_improvement(ours, theirs, num_resamples=RESAMPLES))


def improvement(
    curves: Curves, ours: str, theirs: str, *, by: Callable[[Curves, str], list[float]] = finals
) -> Estimate:
    """Probability that a run of one algorithm beats one of another, in one environment."""
    return probability_of_improvement([by(curves, ours)], [by(curves, theirs)])


def profile(scores: Sequence[float], thresholds: np.ndarray) -> np.ndarray:
    """Share of runs above each threshold.

    >>> profile([0.2, 0.6], np.array([0.0, 0.5, 1.0])).tolist()
    [1.0, 0.5, 0.0]
    """
    found: np.ndarray = (np.asarray(scores)[:, None] > thresholds[None, :]).mean(0)
    return found


def first_at(rows: Sequence[Row], threshold: float, key: str) -> float | None:
    """Frames or seconds of the first evaluation whose score reaches a threshold.

    >>> first_at([{"score": 0.1, "frames": 10}, {"score": 0.9, "frames": 20}], 0.5, "frames")
    20
    """
    return next((row[key] for row in rows if row["score"] >= threshold), None)


def median_to(curves: Curves, algorithm: str, threshold: float, key: str) -> tuple[float | None, int, int]:
    """Median over runs of what it takes to reach a threshold, how many runs reached it, and the number of runs.

    Runs that never reach it count as longer than all others; with too many of them the median is ``None``.
    """
    found = [first_at(rows, threshold, key) for rows in runs_of(curves, algorithm).values()]
    times = sorted(float("inf") if value is None else float(value) for value in found)
    middle = (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2
    return (None if middle == float("inf") else middle), sum(value is not None for value in found), len(found)


def median_ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Median over seeds of ours divided by theirs; ``None`` if no seed has both.

    The suite runs seed by seed, so runs of one seed, if they ran together, had a machine of equal speed.

    Examples:
        >>> median_ratio({0: 1.0, 1: 2.0, 2: 9.0}, {0: 2.0, 1: 4.0, 3: 1.0}).value
        0.5
    """
    ratios = np.array([ours[run] / theirs[run] for run in sorted(ours) if run in theirs])
    if not len(ratios):
        return None
    draws = np.random.default_rng(0)
    again = np.median(ratios[draws.integers(0, len(ratios), (RESAMPLES, len(ratios)))], 1)
    low, high = np.quantile(again, [0.025, 0.975]) if len(ratios) > 1 else (math.nan, math.nan)
    return Estimate(float(np.median(ratios)), float(low), float(high))
