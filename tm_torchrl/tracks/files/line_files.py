"""The community's track files: a ``.npy`` of points half a metre apart along the race."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tm_torchrl.tracks.files.array_files import write_whole
from tm_torchrl.tracks.track import Track
from tm_torchrl.tracks.validate import MAX_DISTANCE_M
from tm_torchrl.tracks.zones import ZONE_SPACING_M, race_points


def save_line(track: Track, path: str | Path) -> Path:
    """Write the points of the race, float64 ``[N, 3]``, from start to finish over all laps; returns the path.

    Linesight and rulka read it as ``reference_line_path``; they add points at both ends and smooth it themselves.

    Args:
        track: The track whose points to write.
        path: The file to write, which ends in ``.npy``.

    Examples:
        >>> import tempfile
        >>> from tm_torchrl.tracks import load_track
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     points = np.load(save_line(load_track("oval"), f"{folder}/oval_0.5m.npy"))
        >>> round(float(np.linalg.norm(np.diff(points, axis=0), axis=1).mean()), 3)
        0.5
    """
    points = race_points(track).round(4)
    return write_whole(path, lambda file: np.save(file, points), suffix=".npy")


def resampled(points: np.ndarray) -> np.ndarray:
    """The points of a drive, resampled to a spacing of half a metre.

    Args:
        points: Points ``[N, 3]`` at any spacing, in the order in which they were driven.

    Examples:
        >>> resampled(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.9], [0.0, 0.0, 1.5]]))[:, 2]
        array([0. , 0.5, 1. , 1.5])
    """
    if len(points) == 0 or not (np.abs(points) <= MAX_DISTANCE_M).all():
        raise ValueError(f"points: must be at least 1 (got {len(points)}) and all within {MAX_DISTANCE_M:g} m of 0")
    run = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=1)))])
    if run[-1] > MAX_DISTANCE_M:
        raise ValueError(f"points: {run[-1]:g} m long in all; must be at most {MAX_DISTANCE_M:g} m")
    rising = np.concatenate([[True], np.diff(run) > 0])
    at = np.arange(int(np.floor(run[-1] / ZONE_SPACING_M + 1e-9)) + 1) * ZONE_SPACING_M
    return np.stack([np.interp(at, run[rising], points[rising, i]) for i in range(3)], axis=1)
