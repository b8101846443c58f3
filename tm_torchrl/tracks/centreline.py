"""Tracks from a line of points, such as the community's ``.npy`` files of points half a metre apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tm_torchrl.tracks.files.array_files import read_line
from tm_torchrl.tracks.track import Track
from tm_torchrl.tracks.validate import MAX_DISTANCE_M, MIN_POINTS, numbers

CHECKPOINT_REACH_M = 12.0  # as in Linesight: a checkpoint is passed within this distance of its block's centre
SAME_PASS_M = 100  # Linesight's 200 zones; a line that comes back later passes the checkpoint again
LEAD_M = 20  # straight road added before the first and after the last point of an open line


def from_centreline(
    line: str | Path | np.ndarray,
    *,
    width: float,
    name: str | None = None,
    wall_offset: float = 4.0,
    is_circuit: bool = False,
    checkpoints: int | np.ndarray = 3,
    is_drivable: bool = True,
) -> Track:
    """Lay a road of one width along a line of points.

    Args:
        line: Points ``[N, 3]`` in metres, y up, up to 20 m apart; or the ``.npy`` file that holds them.
        width: Width of the road from edge to edge, in metres.
        name: Name of the track; the file's name by default.
        wall_offset: Metres from the road's edge to the wall.
        is_circuit: Whether the line ends where it began.
        checkpoints: How many are spread evenly between start and finish; or places ``[K, 3]``, with a gate wherever the
            line passes within 12 m of one.
        is_drivable: ``False`` for a line that is only a reference in the game, where a road may cross itself.

    Raises:
        ValueError: The file or array is not a line of points, or a drivable road would touch itself.

    >>> steps = np.arange(0.0, 300.0, 0.5)
    >>> round(from_centreline(np.stack([0 * steps, 0 * steps, steps], axis=1), width=20.0).length)
    300
    """
    points, label = _read(line)
    if not 2.0 <= width <= 200.0:
        raise ValueError(f"width={width!r}: must be between 2 and 200 metres")
    if is_circuit:
        points = np.vstack([points, points[:1]])
    else:
        points = np.vstack([_extension(points[::-1])[::-1], points, _extension(points)])
    smooth = _metre_points(points, is_circuit=is_circuit)
    start = 0 if is_circuit else LEAD_M
    finish = 0 if is_circuit else len(smooth) - 1 - LEAD_M
    lap = len(smooth) if is_circuit else finish - start
    if isinstance(checkpoints, np.ndarray):
        gates = _passes(smooth, checkpoints, first=start + 1, last=start + lap - 1)
    else:
        gates = start + np.arange(1, checkpoints + 1) * lap // (checkpoints + 1)
    track = Track(
        label if name is None else name,
        smooth,
        half_width=np.array(0.5 * width),
        wall_offset=wall_offset,
        is_circuit=is_circuit,
        start=start,
        finish=finish,
        checkpoints=gates,
    )
    if is_drivable:
        track.raster  # noqa: B018  refuses a road that touches itself here, not at its first use
    return track


def _read(line: str | Path | np.ndarray) -> tuple[np.ndarray, str]:
    label = "line"
    if not isinstance(line, np.ndarray):
        label = Path(line).stem
        try:
            line = read_line(line)
        except ValueError as error:
            raise ValueError(f"line={str(line)!r} is not a .npy file of numbers: {error}") from error
    points = numbers("line", line)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 10:
        raise ValueError(f"line has shape {points.shape}; expected (N, 3) with at least 10 points")
    if not np.isfinite(points).all():
        raise ValueError(f"line has {np.count_nonzero(~np.isfinite(points))} numbers that are not finite")
    if np.abs(points).max() > MAX_DISTANCE_M:
        raise ValueError(f"line reaches {np.abs(points).max():g} m from 0; must be at most {MAX_DISTANCE_M:g} m")
    step = np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=1))
    if step.max() > 20.0:
        raise ValueError(
            f"line jumps {step.max():.1f} m between points {step.argmax()} and {step.argmax() + 1}; "
            "must be at most 20 m"
        )
    return points, label


def _metre_points(points: np.ndarray, *, is_circuit: bool) -> np.ndarray:
    """Points 1 m apart on the map along a line; a circuit's last point is not repeated."""
    plan = np.diff(points[:, (0, 2)], axis=0)
    run = np.concatenate([[0.0], np.cumsum(np.sqrt((plan**2).sum(axis=1)))])
    forward = np.concatenate([[True], np.diff(run) > 1e-6])
    total = float(run[-1])
    num = round(total)
    if num < MIN_POINTS:
        raise ValueError(f"line is {total:.1f} m long on the map; must be at least {MIN_POINTS} m")
    at = np.arange(num if is_circuit else num + 1) * (total / num)
    return np.stack([np.interp(at, run[forward], points[forward, i]) for i in range(3)], axis=1)


def _passes(line: np.ndarray, checkpoints: np.ndarray, *, first: int, last: int) -> np.ndarray:
    """Indices, in order, at which a line of points 1 m apart passes the checkpoints; each lap passes them again."""
    places = np.asarray(checkpoints, np.float64)
    if places.ndim != 2 or places.shape[1] != 3:
        raise ValueError(f"checkpoints has shape {list(places.shape)}; expected [K, 3]")
    found: set[int] = set()
    for i, place in enumerate(places):
        apart = np.sqrt(((line - place) ** 2).sum(axis=1))
        apart[: max(first, 0)] = apart[last + 1 :] = np.inf
        if not apart.min() < CHECKPOINT_REACH_M:
            raise ValueError(
                f"checkpoints[{i}]={place.round(1).tolist()}: the line's nearest point is {apart.min():.0f} m away; "
                f"must be less than {CHECKPOINT_REACH_M:g} m. Does the line belong to another map, or is it cut short?"
            )
        while apart.min() < CHECKPOINT_REACH_M:
            nearest = int(apart.argmin())
            found.add(nearest)
            apart[max(0, nearest - SAME_PASS_M) : nearest + SAME_PASS_M] = np.inf
    return np.array(sorted(found), np.int64)


def _extension(points: np.ndarray) -> np.ndarray:
    """Points of a straight, level road that continues after the last point."""
    ahead = points[-1] - points[-5]
    ahead[1] = 0.0
    ahead /= max(float(np.sqrt((ahead**2).sum())), 1e-9)
    return points[-1] + np.arange(1.0, LEAD_M + 1.0)[:, None] * ahead
