"""Tracks for the page: the centreline with its width, and the ground beside the road."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from tm_torchrl.tracks import BUILTIN_TRACKS, Track, generate_track, load_track
from tm_torchrl.tracks.medals import medals_of

GROUND_CELL_M = 6
_GENERATED = re.compile(r"circuit-(\d{1,6})").fullmatch  # as generate_track names them


@lru_cache(maxsize=32)
def track_named(name: str) -> Track:
    """A track as a run's settings and results name it: built-in, generated, or a ``.npz`` file.

    >>> track_named("oval").name, track_named("circuit-3").name
    ('oval', 'circuit-3')
    """
    generated = _GENERATED(name)
    return load_track(name) if generated is None else generate_track(int(generated.group(1)))


def medal_times(track: str) -> dict[str, float]:
    """Times of a track's medals in seconds, bronze first; empty for a track without medals."""
    medals = medals_of(track) if track in BUILTIN_TRACKS else None
    names = () if medals is None else ("bronze", "silver", "gold", "author")
    return {name: getattr(medals, f"{name}_s") for name in names}


def medal_won(track: str, time_s: float) -> str | None:
    """The best medal that a time earns; ``None`` without one."""
    return next((medal for medal, at_s in reversed(medal_times(track).items()) if time_s <= at_s), None)


def track_data(track: Track) -> dict[str, Any]:
    """What the page draws a track from.

    Args:
        track: The track; one whose road crosses itself has no ground.
    """
    return {
        "name": track.name,
        "length_m": round(track.length, 1),
        "num_laps": track.num_laps,
        "is_circuit": track.is_circuit,
        "start": int(track.start),
        "finish": int(track.finish),
        "checkpoints": track.checkpoints.tolist(),
        "wall_offset": track.wall_offset,
        "centre": np.round(track.centreline, 2).reshape(-1).tolist(),
        "half_width": np.round(track.half_width, 2).tolist(),
        "bank": np.round(track.bank, 4).tolist(),
        "surface": track.surface.tolist(),
        "medals": medal_times(track.name),
        "ground": _ground(track),
    }


def _ground(track: Track) -> dict[str, Any] | None:
    """Heights every few metres, in decimetres, and which of them lie beside the walls."""
    try:
        raster = track.raster
    except ValueError:
        return None
    step = GROUND_CELL_M
    height = raster.height[::step, ::step]
    return {
        "origin": list(raster.origin),
        "cell_m": step,
        "width": height.shape[1],
        "depth": height.shape[0],
        "height_dm": np.rint(10 * height).astype(int).reshape(-1).tolist(),
        "beyond_m": np.rint(-raster.edge[::step, ::step] - track.wall_offset).astype(int).reshape(-1).tolist(),
    }
