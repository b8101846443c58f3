"""Times by sector, from one gate to the next, and what a lap loses there on the author's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tm_torchrl.evaluation.replays import replay
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.medals import author_actions
from tm_torchrl.world.car_row import CAR_ROW


def gate_times(rows: np.ndarray) -> list[float]:
    """Race times in seconds at the gates that a lap has passed, the finish last.

    Args:
        rows: Car rows ``[T + 1, row]``.
    """
    passed = np.flatnonzero(np.diff(rows[:, CAR_ROW.start("checkpoint_count")]) > 0) + 1
    times_s = rows[passed, CAR_ROW.start("last_checkpoint_time_ms")] / 1000.0
    rounded: list[float] = np.round(times_s.astype(np.float64), 3).tolist()
    return rounded


def sector_times(gates_s: Sequence[float]) -> list[float]:
    """Seconds between the gates, the first sector from the start.

    >>> sector_times([9.5, 20.0])
    [9.5, 10.5]
    """
    times: list[float] = np.diff(np.asarray(gates_s, np.float64), prepend=0.0).round(3).tolist() if gates_s else []
    return times


@lru_cache(maxsize=16)
def author_rows(name: str) -> np.ndarray | None:
    """Car rows of the author's lap on a built-in track, driven again; ``None`` for other tracks."""
    actions = author_actions(name)
    if actions is None:
        return None
    return replay(Simulator(load_track(name), num_cars=1), actions.astype(np.int64)).rows


def lost_to_author(name: str, splits_s: Sequence[float]) -> list[float] | None:
    """Seconds that a lap loses on the author's in each sector; negative where it is faster.

    Args:
        name: Name of the track.
        splits_s: Sector times of the lap.

    Returns:
        ``None`` on a track without an author's lap, and for a lap with other gates than the author's.

    Examples:
        >>> author = sector_times(gate_times(author_rows("oval")))
        >>> lost_to_author("oval", [author[0] + 0.25, *author[1:]])[:2], lost_to_author("mine", [20.0])
        ([0.25, 0.0], None)
    """
    rows = author_rows(name) if splits_s else None
    author_s = [] if rows is None else sector_times(gate_times(rows))
    if not author_s or len(author_s) != len(splits_s):
        return None
    return [round(own_s - best_s, 3) for own_s, best_s in zip(splits_s, author_s, strict=True)]
