"""A linear probe: how much of what a driver must know can be read from features by a linear map.

Shapes: N frames, D features, K targets.
"""

from __future__ import annotations

import numpy as np

from tm_torchrl.world.layout import Layout
from tm_torchrl.world.observation import NUM_ZONES_AHEAD

TARGETS = ("speed", "lateral_offset", "curvature")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the penalty, over the mean variance of a feature
CURVE_POINTS = (0, 2, 4)  # 0, 20 and 40 m ahead


def probe_targets(floats_NF: np.ndarray, layout: Layout) -> np.ndarray:
    """What is read from the features, float64 ``[N, 3]``, from the floats that were recorded beside the images.

    Speed in m/s; how far the car is left of the centreline, in metres; and the curvature of the road over the next 40 m
    in 1/m, positive to the left.

    Args:
        floats_NF: Float observations.
        layout: Their fields.
    """
    speed = np.linalg.norm(floats_NF[:, layout["velocity"]].astype(np.float64), axis=1)
    ahead = floats_NF[:, layout["zones_ahead"]].astype(np.float64).reshape(-1, NUM_ZONES_AHEAD, 3)[..., [0, 2]]
    along = ahead[:, 1] - ahead[:, 0]  # left, forward
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    offset = ahead[:, 0, 1] * along[:, 0] - ahead[:, 0, 0] * along[:, 1]
    a, b, c = (ahead[:, point] for point in CURVE_POINTS)
    first, second, whole = b - a, c - b, c - a
    sides = np.prod([np.linalg.norm(side, axis=1) for side in (first, second, whole)], axis=0)
    turn = first[:, 1] * second[:, 0] - first[:, 0] * second[:, 1]
    return np.stack([speed, offset, 2.0 * turn / np.maximum(sides, 1e-9)], 1)


def ridge_r2(fit: tuple, choice: tuple, test: tuple) -> np.ndarray:
    """The share of the variance of each target that a ridge regression explains, ``[K]``; 1 is all, 0 that of a mean.

    Args:
        fit: Features ``[N, D]`` and targets ``[N, K]`` to fit the regression to.
        choice: The same of other laps, which choose the strength of the penalty, for each target.
        test: The same of laps that had no part in either.
    """
    features, targets = (np.asarray(each, np.float64) for each in fit)
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-12), deviation, np.inf)  # constants read 0
    centre = targets.mean(0)
    scaled = (features - mean) / scale
    num, size = scaled.shape
    if size <= num:
        values, basis = np.linalg.eigh(scaled.T @ scaled / num)
        rotated = basis.T @ (scaled.T @ (targets - centre)) / num
    else:  # the same with a matrix [N, N]
        values, vectors = np.linalg.eigh(scaled @ scaled.T / num)
        basis, rotated = scaled.T @ vectors, vectors.T @ (targets - centre) / num
    strengths = np.array(STRENGTHS) * max(float(np.square(scaled).mean()), 1e-12)
    weights = [basis @ (rotated / (np.maximum(values, 0.0) + strength)[:, None]) for strength in strengths]

    def scores(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
        seen = (np.asarray(features, np.float64) - mean) / scale
        return np.stack([r2(seen @ each + centre, np.asarray(targets, np.float64)) for each in weights])

    best = scores(*choice).argmax(0)
    return scores(*test)[best, np.arange(len(best))]


def r2(predicted_NK: np.ndarray, targets_NK: np.ndarray) -> np.ndarray:
    """One minus the squared error over the variance of the targets, ``[K]``.

    Args:
        predicted_NK: Predictions.
        targets_NK: Targets.

    Examples:
        >>> r2(np.array([[1.0], [1.0]]), np.array([[0.0], [2.0]]))  # no better than the mean
        array([0.])
    """
    error = np.square(predicted_NK - targets_NK).sum(0)
    return 1.0 - error / np.maximum(np.square(targets_NK - targets_NK.mean(0)).sum(0), 1e-12)
