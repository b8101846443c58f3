"""Statistics over runs: interquartile mean, probability of improvement, bootstrap intervals (Agarwal et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Values = np.ndarray | Sequence[float]


def interquartile_mean(values: Values) -> float:
    """Mean of the middle half of the values; a value at its edge counts with the share that lies inside.

    >>> interquartile_mean([0.0, 1.0, 2.0, 100.0])
    1.5
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    if not len(ordered):
        raise ValueError("values: must not be empty")
    edges = np.arange(len(ordered) + 1) / len(ordered)
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    return float((ordered * weights).sum() / weights.sum())


def bootstrap_interval(
    values: Values,
    *,
    statistic: Callable[[np.ndarray], float] = interquartile_mean,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap confidence interval of a statistic: runs are drawn again with replacement.

    Args:
        values: ``[runs]``, or ``[runs, tasks]``, where runs are drawn separately for each task.
        statistic: Function of an array with the shape of ``values``.
        confidence: Confidence of the interval.
        num_resamples: Number of resamples.
        seed: Seeds the resampling.

    Examples:
        >>> bootstrap_interval([1.0, 1.0, 1.0])
        (1.0, 1.0)
    """
    scores = np.asarray(values, np.float64)
    if scores.ndim not in (1, 2) or not len(scores):
        raise ValueError(f"values: its shape is {scores.shape}; must be [runs] or [runs, tasks] with at least one run")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must lie between 0 and 1")
    if num_resamples < 1:
        raise ValueError(f"num_resamples={num_resamples}: must be at least 1; 2000 are usual")
    draws = np.random.default_rng(seed)
    found = np.empty(num_resamples)
    for i in range(num_resamples):
        rows = draws.integers(0, len(scores), scores.shape)
        found[i] = statistic(np.take_along_axis(scores, rows, 0))
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def pairs_won(ours: Values, theirs: Values) -> np.ndarray:
    """Each run of ours against each of theirs, ``[ours, theirs]``: 1 where ours is greater, 0.5 where they are equal.

    >>> pairs_won([1.0, 2.0], [1.0, 0.0]).tolist()
    [[0.5, 1.0], [1.0, 1.0]]
    """
    differences = np.asarray(ours, np.float64)[:, None] - np.asarray(theirs, np.float64)
    won: np.ndarray = (np.sign(differences) + 1.0) / 2.0
    return won


def probability_of_improvement(
    ours: Sequence[Values], theirs: Sequence[Values], *, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Probability that a run of ours is better than one of theirs, mean over tasks, and its 95 % bootstrap interval.

    Args:
        ours: Scores of the runs, for each task.
        theirs: Scores of the runs they are compared with, for the same tasks in the same order.
        num_resamples: Number of resamples; runs are drawn again separately for each task.
        seed: Seeds the resampling.

    Examples:
        >>> probability_of_improvement([[1.0, 2.0]], [[0.0, 0.5]])
        (1.0, 1.0, 1.0)
    """
    draws = np.random.default_rng(seed)
    shares, drawn = [], np.zeros(num_resamples)
    for own, others in zip(ours, theirs, strict=True):
        won = pairs_won(own, others)
        rows, columns = (draws.integers(0, num, (num_resamples, num)) for num in won.shape)
        shares.append(won.mean())
        drawn += won[rows[:, :, None], columns[:, None, :]].mean((1, 2)) / len(ours)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(np.mean(shares)), float(low), float(high)
