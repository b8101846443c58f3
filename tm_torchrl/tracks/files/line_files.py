"""The community's files of a track: a ``.npy`` of points half a metre apart along the race."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tm_torchrl.tracks.track import Track
from tm_torchrl.tracks.validate import MAX_DISTANCE_M
from tm_torchrl.tracks.zones import ZONE_SPACING_M, race_points


def save_line(track: Track, path: str | Path) -> Path:
    """Write the points of the race, float64 ``[N, 3]``, from start to finish over all laps; returns the path.

    Linesight and rulka read it as ``reference_line_path``; they add points before and behind and smooth it themselves.

    Args:
        track: whose line it is.
        path: ends in ``.npy``.

    Examples:
        >>> import tempfile
        >>> from tm_torchrl.tracks import load_track
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     points = np.load(save_line(load_track("oval"), f"{folder}/oval_0.5m.npy"))
        >>> round(float(np.linalg.norm(np.diff(points, axis=0), axis=1).mean()), 3)
        0.5
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise ValueError(f"path must end in .npy, got {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path {str(path)!r} lies in a folder that does not exist; create {str(path.parent)!r}")
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            np.save(file, race_points(track).round(4))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def resampled(points: np.ndarray) -> np.ndarray:
    """Points of a drive at any spacing, laid anew half a metre apart.

    Args:
        points: ``[N, 3]``, in the order in which they were driven.

    Examples:
        >>> resampled(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.9], [0.0, 0.0, 1.5]]))[:, 2]
        array([0. , 0.5, 1. , 1.5])
    """
    if len(points) == 0 or not (np.abs(points) <= MAX_DISTANCE_M).all():
        raise ValueError(
            f"points: of {len(points)}, some lie beyond {MAX_DISTANCE_M:g} m or nowhere; take another file"
        )
    run = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=1)))])
    if run[-1] > MAX_DISTANCE_M:
        raise ValueError(f"points: {run[-1]:g} m from one to the next; a drive has at most {MAX_DISTANCE_M:g} m")
    rising = np.concatenate([[True], np.diff(run) > 0])
    at = np.arange(int(np.floor(run[-1] / ZONE_SPACING_M + 1e-9)) + 1) * ZONE_SPACING_M
    return np.stack([np.interp(at, run[rising], points[rising, i]) for i in range(3)], axis=1)
