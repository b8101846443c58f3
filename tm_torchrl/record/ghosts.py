"""The best lap of every evaluation in ``ghosts.jsonl``: its keys and where it began, from which it is driven again.

A lap takes about a kilobyte. Laps of the real game are left out: only the game could drive them again.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.record.run_folder import append_line
from tm_torchrl.tracks.medals import decode_actions, encode_actions
from tm_torchrl.world.actions import MAX_ACTIONS, TICKS_PER_ACTION

FILE = "ghosts.jsonl"
MAX_START = 10_000  # characters


@dataclass
class Ghost:
    """A lap that can be driven again.

    Args:
        track: Name of its track.
        frames: Frames that had been trained on.
        time_s: Race time; ``None`` if it did not finish.
        actions: ``[T]``, or ``[T, 5]`` with one per tick.
        start: Saved state of the simulator where it began.
    """

    track: str
    frames: int
    time_s: float | None
    actions: np.ndarray
    start: np.ndarray


def save_ghost(run: str | Path, ghost: Ghost) -> None:
    """Append a lap, unless its start is one of the real game.

    Args:
        run: The run folder.
        ghost: The lap.
    """
    if ghost.start.dtype != np.float32:
        return
    row = {
        "track": ghost.track,
        "frames": ghost.frames,
        "time_s": ghost.time_s,
        "actions": encode_actions(ghost.actions.reshape(-1)),
        "block": 1 if ghost.actions.ndim == 1 else ghost.actions.shape[1],
        "start": base64.b64encode(ghost.start.astype("<f4").tobytes()).decode(),
    }
    append_line(Path(run) / FILE, row)


def ghost_of(row: Mapping[str, Any]) -> Ghost:
    """The lap of a row of ``ghosts.jsonl``; raises ``ValueError`` for a row that is damaged.

    Examples:
        >>> row = {"track": "oval", "frames": 512, "time_s": 21.5, "actions": "0b", "block": 1, "start": "AACAPw=="}
        >>> ghost = ghost_of(row)
        >>> ghost.actions.tolist(), ghost.start.tolist()
        ([0, 11], [1.0])
    """
    track, frames, time_s = row.get("track"), row.get("frames"), row.get("time_s")
    letters, block, start = row.get("actions"), row.get("block"), row.get("start")
    is_timed = time_s is None or (isinstance(time_s, float) and math.isfinite(time_s))
    if not isinstance(track, str) or not isinstance(frames, int) or not is_timed:
        raise ValueError(f"track={track!r}, frames={frames!r}, time_s={time_s!r}: must name a lap")
    if not isinstance(letters, str) or not 0 < len(letters) <= MAX_ACTIONS or block not in (1, TICKS_PER_ACTION):
        raise ValueError(f"actions, block={block!r}: must be at most {MAX_ACTIONS:,} actions in blocks of 1 or 5")
    if not isinstance(start, str) or len(start) > MAX_START:
        raise ValueError("start: must be a saved state of the simulator")
    actions = decode_actions(letters).astype(np.int64)
    state = np.frombuffer(base64.b64decode(start, validate=True), "<f4").astype(np.float32)
    return Ghost(track, frames, time_s, actions if block == 1 else actions.reshape(-1, block), state)
