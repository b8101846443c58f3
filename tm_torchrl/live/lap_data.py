"""Laps for the page: where the car was every 50 ms, how it stood, and what was pressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.evaluation.replays import replay
from tm_torchrl.evaluation.sectors import gate_times
from tm_torchrl.record.ghosts import Ghost
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import Track
from tm_torchrl.tracks.files.array_files import read_arrays
from tm_torchrl.tracks.zones import NUM_BEFORE
from tm_torchrl.world.car_row import CAR_ROW

STEP_S = 0.05
GAS, BRAKE, LEFT, RIGHT = 1, 2, 4, 8  # bits of the keys
HIT_M_S = 3.0  # lost within one step; the brakes take up to 2.3 m/s
LEVELS = (0.05, 0.5, 0.95)  # of the distribution of a value
AHEAD, BEHIND = 60, 10  # zones of half a metre in which the car is looked for, from where it was 50 ms before


def kept_rows(path: Path) -> np.ndarray:
    """Car rows ``[T + 1, row]`` of a kept lap; raises ``ValueError`` for a file that holds none."""
    if path.is_symlink():
        raise ValueError(f"{path} is a link: a run's laps are files of its own folder")
    rows = read_arrays(path, names=("rows",)).get("rows")
    if rows is None or rows.dtype.kind != "f" or rows.ndim != 2 or rows.shape[1] != CAR_ROW.size or len(rows) < 2:
        raise ValueError(f"{path} holds no lap: rows [T + 1, {CAR_ROW.size}] are missing")
    if not np.isfinite(rows).all() or np.abs(rows).max() > 1e9:
        raise ValueError(f"{path} is damaged: its rows hold numbers that no car has")
    return rows


def kept_inputs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Actions of a kept lap of the simulator, and where it began; raises ``ValueError`` for a file without them."""
    found = {} if path.is_symlink() else read_arrays(path, names=("actions", "start"))
    actions, start = found.get("actions"), found.get("start")
    if actions is None or actions.dtype.kind not in "iu" or actions.ndim not in (1, 2) or not actions.size:
        raise ValueError(f"{path} has no actions")
    if start is None or start.dtype != np.float32:
        raise ValueError(f"{path} begins in the real game, where it cannot be driven again")
    return actions, start


def ghost_rows(track: Track, ghost: Ghost) -> np.ndarray:
    """Car rows of the best lap of an evaluation, driven again."""
    return replay(Simulator(track, num_cars=1), ghost.actions, start=ghost.start).rows


def lap_data(track: Track, rows: np.ndarray) -> dict[str, Any]:
    """A lap as JSON values, one of each list per row.

    Args:
        track: Its track.
        rows: Car rows ``[T + 1, row]``.
    """
    rotation, progress = rows[:, CAR_ROW["rotation"]].reshape(-1, 3, 3), Progress(track)
    gas, brake, steer = (rows[:, CAR_ROW.start(f"input_{name}")] for name in ("gas", "brake", "steer"))
    keys = (gas > 0) * GAS + (brake > 0) * BRAKE + (steer < 0) * LEFT + (steer > 0) * RIGHT
    is_finished = bool(rows[-1, CAR_ROW.start("is_finished")])
    gates_s = gate_times(rows)
    return {
        "step_s": STEP_S,
        "num": len(rows),
        "time_s": gates_s[-1] if is_finished and gates_s else None,
        "position": _flat(rows[:, CAR_ROW["position"]], 2),
        "ahead": _flat(rotation[:, :, 2], 3),
        "up": _flat(rotation[:, :, 1], 3),
        "speed": _flat(np.linalg.norm(rows[:, CAR_ROW["velocity"]], axis=1), 2),
        "gear": rows[:, CAR_ROW.start("gear")].astype(int).tolist(),
        "rpm": rows[:, CAR_ROW.start("engine_rpm")].astype(int).tolist(),
        "keys": keys.astype(int).tolist(),
        "progress": [round(progress.at(position), 2) for position in rows[:, CAR_ROW["position"]]],
        "gates_s": gates_s,
        "hits": wall_hits(rows).tolist(),
    }


def wall_hits(rows: np.ndarray) -> np.ndarray:
    """The steps of a lap at which a wall took much of the speed; one step for each hit."""
    speed = np.linalg.norm(rows[:, CAR_ROW["velocity"]], axis=1)
    at = np.flatnonzero((np.diff(speed) < -HIT_M_S) & (rows[1:, CAR_ROW.start("has_lateral_contact")] > 0)) + 1
    return at[np.diff(at, prepend=-10) > 4]


def kept_values(path: Path) -> list[list[float]] | None:
    """Quantiles of the value of the actions taken along a kept lap, a list for each of ``LEVELS``, if it has them."""
    values = read_arrays(path, names=("quantiles",)).get("quantiles")
    if values is None or values.dtype.kind != "f" or values.ndim != 2 or not values.size:
        return None
    if not np.isfinite(values).all() or np.abs(values).max() > 1e9:
        return None
    return [_flat(row, 3) for row in np.quantile(values, LEVELS, axis=1)]


class Progress:
    """How far a car has come along the race, from one position to the next.

    Args:
        track: The track.

    Examples:
        >>> from tm_torchrl.tracks import load_track
        >>> track = load_track("oval")
        >>> progress = Progress(track)
        >>> [round(progress.at(track.centreline[track.start + metres])) for metres in (0, 10)]
        [0, 10]
    """

    def __init__(self, track: Track) -> None:
        self._zones, self._zone = track.zones, NUM_BEFORE
        self._start_m = float(self._zones.distance[NUM_BEFORE - 1] + 0.5 * self._zones.lengths[NUM_BEFORE - 1])

    def at(self, position: np.ndarray) -> float:
        """Metres from the start; a position is at most some 30 m from the one before."""
        zones, low = self._zones, max(self._zone - BEHIND, 1)
        near = zones.centers[low : min(self._zone + AHEAD, len(zones.centers) - 1)]
        zone = self._zone = low + int(((near - position) ** 2).sum(axis=1).argmin())
        along = float((position - zones.transitions[zone - 1]) @ zones.tangents[zone - 1])
        return float(zones.distance[zone - 1]) + min(max(along, 0.0), float(zones.lengths[zone - 1])) - self._start_m


def _flat(values: np.ndarray, digits: int) -> list[float]:
    rounded: list[float] = np.round(values.astype(np.float64), digits).reshape(-1).tolist()
    return rounded
