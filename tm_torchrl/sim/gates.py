"""The gates of a race: checkpoints and finish line in passing order, over all laps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import warp as wp

from tm_torchrl.tracks import Track

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

GATE_DEPTH_M = wp.constant(8.0)  # a car above a gate by more than this has not passed it


@wp.struct
class Gates:
    """One lap's gates of every track, the finish line last."""

    centre: wp.array(dtype=wp.vec3)
    ahead: wp.array(dtype=wp.vec3)
    half_width: wp.array(dtype=wp.float32)
    offset: wp.array(dtype=wp.int32)  # per track
    per_lap: wp.array(dtype=wp.int32)
    total: wp.array(dtype=wp.int32)  # over all laps


@wp.func
def passes_gate(gates: Gates, track: int, count: float, before: wp.vec3, after: wp.vec3) -> bool:
    """Whether this tick carried the car through the next gate."""
    next_gate = gates.offset[track] + int(count) % gates.per_lap[track]
    centre = gates.centre[next_gate]
    ahead = gates.ahead[next_gate]
    reached = wp.dot(after - centre, ahead)
    if reached < 0.0 or wp.dot(before - centre, ahead) >= 0.0:
        return False
    aside = after - centre
    across = aside[0] * ahead[2] - aside[2] * ahead[0]
    limit = gates.half_width[next_gate]
    return wp.abs(across) <= limit and wp.abs(aside[1]) <= GATE_DEPTH_M + limit


def build_gates(tracks: Sequence[Track], *, device: str) -> Gates:
    """Copy the gates of all tracks to a device."""
    all_gates = [np.asarray(track.gates) for track in tracks]
    counts = [len(gates) for gates in all_gates]
    table = np.concatenate(all_gates).astype(np.float32)
    gates = Gates()
    gates.centre = wp.array(table[:, 0:3], dtype=wp.vec3, device=device)
    gates.ahead = wp.array(table[:, 3:6], dtype=wp.vec3, device=device)
    gates.half_width = wp.array(table[:, 6].copy(), dtype=wp.float32, device=device)
    gates.offset = wp.array(np.cumsum([0, *counts[:-1]]), dtype=wp.int32, device=device)
    gates.per_lap = wp.array(counts, dtype=wp.int32, device=device)
    laps = [track.num_laps for track in tracks]
    gates.total = wp.array([n * k for n, k in zip(counts, laps, strict=True)], dtype=wp.int32, device=device)
    return gates
