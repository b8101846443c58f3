"""Checks the arrays that define a track."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from tm_torchrl.tracks.surfaces import Surface

if TYPE_CHECKING:
    from tm_torchrl.tracks.track import Track

MAX_NAME_LENGTH = 100
MAX_QUOTED_LENGTH = 200  # systems allow 255 bytes, with a lap time and an ending
LENGTH_GRID = 1024.0  # points and widths lie on multiples of 1/1024 m
BANK_GRID = 65536.0
MIN_POINTS = 20
SPACING_RANGE_M = (0.8, 1.25)  # of neighbouring points, on the map
MAX_DISTANCE_M = 1e6  # of a point from 0; beyond it float32 cannot resolve a centimetre
MAX_EXTENT_M = 8192.0
MAX_CELLS = 2**22  # of 1 m, for the raster; a map of the game has 1,024 x 1,024 m
MAX_POINTS = 50_000  # a raster of these takes about half a minute
MAX_RACE_M = 200_000  # over all laps, with two zones for each metre


def snap(values: np.ndarray, *, grid: float = LENGTH_GRID) -> np.ndarray:
    """Round to multiples of 1/grid, ties upwards."""
    snapped: np.ndarray = np.floor(np.asarray(values, np.float64) * grid + 0.5) / grid
    return snapped


def validated(track: Track) -> dict[str, Any]:
    """The track's fields, checked, rounded, converted to their types and read-only."""
    _check_name(track.name)
    is_circuit = bool(track.is_circuit)
    centreline = _centreline(track.centreline, is_circuit=is_circuit)
    num_points = len(centreline)
    surface = _along("surface", track.surface, num_points)
    unknown = sorted(set(surface.tolist()) - {float(s) for s in Surface})
    if unknown:
        known = ", ".join(f"{s.name}={s.value}" for s in Surface)
        raise ValueError(f"surface has the unknown id {unknown[0]:g}; known are {known}")
    half_width = _bounded("half_width", track.half_width, num_points, low=1.0, high=100.0, unit="m")
    bank = _bounded("bank", track.bank, num_points, low=-0.75, high=0.75, unit="m rise per m to the left")
    wall_offset = numbers("wall_offset", track.wall_offset)
    if wall_offset.ndim or not 1.0 <= wall_offset <= 100.0:
        raise ValueError(f"wall_offset must be a number, 1..100 m, got {_shown(wall_offset)}")
    num_laps = _integer("num_laps", track.num_laps)
    if num_laps < 1 or num_laps > 100:
        raise ValueError(f"num_laps must be 1..100, got {num_laps}")
    if num_laps > 1 and not is_circuit:
        raise ValueError(f"num_laps is {num_laps} on an open course; only a circuit (is_circuit=True) has laps")
    if num_points * num_laps > MAX_RACE_M:
        raise ValueError(
            f"num_laps is {num_laps} on a circuit of {num_points:,} m, a race of {num_points * num_laps:,} m; must be "
            f"at most {MAX_RACE_M:,} m"
        )
    _check_area(centreline, reach=float(half_width.max() + wall_offset))
    start, finish = _ends(track, num_points, is_circuit=is_circuit)
    fields = {
        "centreline": centreline,
        "half_width": snap(half_width),
        "bank": snap(bank, grid=BANK_GRID),
        "surface": surface.astype(np.uint8),
        "checkpoints": _checkpoints(track.checkpoints, start, finish, num_points, is_circuit=is_circuit),
    }
    for array in fields.values():
        array.setflags(write=False)
    return {
        **fields,
        "name": track.name,
        "wall_offset": float(snap(wall_offset)),
        "is_circuit": is_circuit,
        "num_laps": num_laps,
        "start": start,
        "finish": finish,
    }


def _check_name(name: Any) -> None:
    """A name is shown on terminals and becomes part of file names."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a non-empty string, got {name!r}")
    if len(name) > MAX_NAME_LENGTH or not name.isprintable() or set(name) & {"/", "\\"}:
        raise ValueError(
            f"name must be at most {MAX_NAME_LENGTH} printable letters without / and \\, got {_shown(name)}"
        )
    length = len(quote(name, safe=" "))
    if length > MAX_QUOTED_LENGTH:
        raise ValueError(
            f"name has {length} letters in a file name, which spells letters such as ü as %C3%BC: must have at most "
            f"{MAX_QUOTED_LENGTH}, got {_shown(name)}"
        )


def _centreline(value: Any, *, is_circuit: bool) -> np.ndarray:
    line = numbers("centreline", value)
    if line.ndim != 2 or line.shape[1] != 3:
        raise ValueError(f"centreline must have shape [P, 3] (x, y, z), got {list(line.shape)}")
    if len(line) < MIN_POINTS:
        raise ValueError(f"centreline must have at least {MIN_POINTS} points, got {len(line)}")
    if len(line) > MAX_POINTS:
        raise ValueError(f"centreline must have at most {MAX_POINTS:,} points, got {len(line):,}. Is it in metres?")
    if not np.isfinite(line).all():
        raise ValueError(f"centreline must be finite; point {int(np.argmin(np.isfinite(line).all(axis=1)))} is not")
    farthest = float(np.abs(line).max())
    if farthest > MAX_DISTANCE_M:
        raise ValueError(f"centreline must lie within {MAX_DISTANCE_M:g} m of 0, got {farthest:g} m. Is it in metres?")
    extent = float((line.max(axis=0) - line.min(axis=0)).max())
    if extent > MAX_EXTENT_M:
        raise ValueError(f"centreline must span at most {MAX_EXTENT_M:g} m, got {extent:g} m. Is it in metres?")
    line = snap(line)
    _check_spacing(line, is_circuit=is_circuit)
    turn = np.roll(line, -2, axis=0) - line if is_circuit else line[2:] - line[:-2]
    folds = np.flatnonzero((turn[:, 0] == 0.0) & (turn[:, 2] == 0.0))
    if len(folds):
        raise ValueError(
            f"centreline turns back on itself at point {(int(folds[0]) + 1) % len(line)}: the points before and after "
            "it are the same, so the road has no direction there"
        )
    return line


def _check_area(line: np.ndarray, *, reach: float) -> None:
    """The raster holds the rectangle around the road, from wall to wall."""
    width, depth = (float(line[:, axis].max() - line[:, axis].min()) + 2.0 * reach for axis in (0, 2))
    if width * depth > MAX_CELLS:
        raise ValueError(
            f"centreline spans {width:,.0f} m x {depth:,.0f} m with its walls; must be at most {MAX_CELLS:,} square "
            "metres, four times a map of the game. Is it in metres?"
        )


def _check_spacing(line: np.ndarray, *, is_circuit: bool) -> None:
    ahead = np.roll(line, -1, axis=0) if is_circuit else line[1:]
    step = ahead - line[: len(ahead)]
    spacing = np.sqrt(step[:, 0] * step[:, 0] + step[:, 2] * step[:, 2])
    low, high = SPACING_RANGE_M
    bad = np.flatnonzero((spacing < low) | (spacing > high))
    if len(bad):
        i = int(bad[0])
        where = f"{i} and {(i + 1) % len(line)}"
        hint = "from_centreline() resamples a line"
        if is_circuit and i == len(line) - 1:
            hint = "a circuit's last point joins its first: leave out the repeated first point, or is_circuit=False"
        raise ValueError(
            f"centreline points must be 1 m apart on the map ({low:g}..{high:g}); "
            f"points {where} are {spacing[i]:.3f} m apart. {hint}"
        )


def numbers(name: str, value: Any) -> np.ndarray:
    """The value as floats; text, complex numbers, objects and rows of unequal length are refused.

    Args:
        name: The argument's name, for error messages.
        value: What was given.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"dtype {array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, got {_shown(value)} ({error})") from None


def _shown(value: Any) -> str:
    """The beginning of a value, for messages."""
    text = " ".join(repr(value.item() if isinstance(value, np.ndarray) and not value.ndim else value).split())
    return text if len(text) <= 60 else f"{text[:60]}..."


def _along(name: str, value: Any, num_points: int) -> np.ndarray:
    array = numbers(name, value)
    if array.shape not in ((), (num_points,)):
        raise ValueError(f"{name} must be one number or have shape [{num_points}] like the centreline, "
                         f"got {list(array.shape)}")  # fmt: skip
    return np.broadcast_to(array, (num_points,)).copy()


def _bounded(name: str, value: Any, num_points: int, *, low: float, high: float, unit: str) -> np.ndarray:
    array = _along(name, value, num_points)
    bad = np.flatnonzero(~((array >= low) & (array <= high)))
    if len(bad):
        raise ValueError(f"{name} must be {low:g}..{high:g} {unit}; at point {bad[0]} it is {array[bad[0]]:g}")
    return array


def _integer(name: str, value: Any) -> int:
    number = numbers(name, value)
    if number.ndim or isinstance(value, bool) or not np.isfinite(number) or number != np.floor(number):
        raise ValueError(f"{name} must be a whole number, got {_shown(value)}")
    return int(value)


def _ends(track: Track, num_points: int, *, is_circuit: bool) -> tuple[int, int]:
    start = _integer("start", track.start)
    finish = _integer("finish", track.finish)
    if not 0 <= start < num_points:
        raise ValueError(f"start must be a centreline index 0..{num_points - 1}, got {start}")
    if finish == -1:
        finish = start if is_circuit else num_points - 1
    if is_circuit and finish != start:
        raise ValueError(f"finish of a circuit must be its start ({start}), got {finish}; leave finish out")
    if not is_circuit and not start < finish < num_points:
        raise ValueError(f"finish must be above start={start} and at most {num_points - 1}, got {finish}")
    return start, finish


def _checkpoints(value: Any, start: int, finish: int, num_points: int, *, is_circuit: bool) -> np.ndarray:
    points = numbers("checkpoints", value)
    if points.ndim != 1 or not (points == np.floor(points)).all():
        raise ValueError(f"checkpoints must be a list of centreline indices, got {_shown(value)}")
    if not ((points >= 0) & (points < num_points)).all():
        raise ValueError(f"checkpoints must be centreline indices 0..{num_points - 1}, got {_shown(points.tolist())}")
    points = points.astype(np.int64)
    since_start = (points - start) % num_points if is_circuit else points - start
    last = num_points if is_circuit else finish - start
    steps = np.diff(since_start, prepend=0, append=last)
    if (steps < 1).any():
        raise ValueError(
            f"checkpoints must be in passing order and lie strictly between start={start} and finish={finish}, "
            f"got {_shown(points.tolist())}"
        )
    return points
