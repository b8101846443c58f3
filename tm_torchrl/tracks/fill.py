"""Fills the unknown cells of a grid smoothly, by averages over ever coarser copies of it."""

from __future__ import annotations

import numpy as np

NUM_RELAXATIONS = 12


def fill_smoothly(values: np.ndarray, *, is_known: np.ndarray) -> np.ndarray:
    """Keep the known cells and interpolate smoothly between them, float64 ``[D, W]``.

    >>> row = fill_smoothly(np.array([[1.0, 0.0, 0.0, 1.0]]), is_known=np.array([[True, False, False, True]]))
    >>> row.tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """
    if not is_known.any():
        raise ValueError("is_known: must have at least one known cell to fill from")
    filled = _pyramid(np.where(is_known, values, 0.0), is_known.astype(np.float64))
    for _ in range(NUM_RELAXATIONS):
        filled = np.where(is_known, values, _average_of_neighbours(filled))
    return np.where(is_known, values, filled)


def _pyramid(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    if total.shape == (1, 1):
        return total / weight
    depth, width = total.shape
    if (weight > 0.0).all():
        return total / weight
    coarse_total, coarse_weight = _halved(total), _halved(weight)
    coarse = _pyramid(coarse_total, coarse_weight)
    own = total / np.where(weight > 0.0, weight, 1.0)
    return np.where(weight > 0.0, own, _doubled(coarse)[:depth, :width])


def _halved(grid: np.ndarray) -> np.ndarray:
    depth, width = grid.shape
    even = np.zeros((depth + depth % 2, width + width % 2))
    even[:depth, :width] = grid
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]


def _doubled(grid: np.ndarray) -> np.ndarray:
    """Bilinear upsampling: each fine cell lies a quarter of a coarse cell from the coarse centre."""
    tall = _doubled_rows(grid)
    return _doubled_rows(tall.T).T


def _doubled_rows(grid: np.ndarray) -> np.ndarray:
    above = np.concatenate([grid[:1], grid[:-1]])
    below = np.concatenate([grid[1:], grid[-1:]])
    out = np.empty((2 * grid.shape[0], grid.shape[1]))
    out[::2] = 0.75 * grid + 0.25 * above
    out[1::2] = 0.75 * grid + 0.25 * below
    return out


def _average_of_neighbours(grid: np.ndarray) -> np.ndarray:
    padded = np.empty((grid.shape[0] + 2, grid.shape[1] + 2))
    padded[1:-1, 1:-1] = grid
    padded[0, 1:-1], padded[-1, 1:-1] = grid[0], grid[-1]
    padded[:, 0], padded[:, -1] = padded[:, 1], padded[:, -2]
    vertical = padded[:-2, 1:-1] + padded[2:, 1:-1]
    average: np.ndarray = 0.25 * (vertical + (padded[1:-1, :-2] + padded[1:-1, 2:]))
    return average
