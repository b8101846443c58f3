"""The zones of all tracks as Warp arrays, for tracker and sensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import warp as wp

from tm_torchrl.tracks import Track
from tm_torchrl.tracks.zones import NUM_AFTER, NUM_BEFORE

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.struct
class ZoneTable:
    """The zones of all tracks, concatenated; ``distance`` is 0 where the start zone begins."""

    centre: wp.array(dtype=wp.vec3)
    entry: wp.array(dtype=wp.vec3)  # transition before each zone
    tangent: wp.array(dtype=wp.vec3)
    length: wp.array(dtype=wp.float32)
    distance: wp.array(dtype=wp.float32)  # metres from the start to each zone's entry
    offset: wp.array(dtype=wp.int32)  # per track
    last: wp.array(dtype=wp.int32)  # per track: the zone of the finish
    finish_distance: wp.array(dtype=wp.float32)
    checkpoint_zone: wp.array(dtype=wp.int32)  # per gate of the race
    checkpoint_offset: wp.array(dtype=wp.int32)
    num_checkpoints: wp.array(dtype=wp.int32)


def build_zone_table(tracks: Sequence[Track], *, device: str) -> ZoneTable:
    """Copy the zones of all tracks to a device."""
    centres, entries, tangents, lengths, distances, finishes, gates = [], [], [], [], [], [], []
    for track in tracks:
        zones = track.zones
        num = len(zones.centers)
        centres.append(zones.centers)
        # Zone i is entered at transition i - 1; the first and the last zones repeat their neighbour's.
        at = np.clip(np.arange(num) - 1, 0, len(zones.tangents) - 1)
        entries.append(zones.transitions[at])
        tangents.append(zones.tangents[at])
        lengths.append(zones.lengths[at])
        begin = zones.distance[NUM_BEFORE - 1]
        distances.append((zones.distance[at].astype(np.float64) - begin).astype(np.float32))
        finishes.append(float(zones.distance[num - 1 - NUM_AFTER - 1] - begin))
        gates.append(zones.checkpoint_zones)
    counts = [len(c) for c in centres]
    gate_counts = [len(g) for g in gates]
    table = ZoneTable()
    table.centre = wp.array(np.concatenate(centres), dtype=wp.vec3, device=device)
    table.entry = wp.array(np.concatenate(entries), dtype=wp.vec3, device=device)
    table.tangent = wp.array(np.concatenate(tangents), dtype=wp.vec3, device=device)
    table.length = wp.array(np.concatenate(lengths), dtype=wp.float32, device=device)
    table.distance = wp.array(np.concatenate(distances), dtype=wp.float32, device=device)
    table.offset = wp.array(np.cumsum([0, *counts[:-1]]), dtype=wp.int32, device=device)
    table.last = wp.array([n - 1 - NUM_AFTER for n in counts], dtype=wp.int32, device=device)
    table.finish_distance = wp.array(finishes, dtype=wp.float32, device=device)
    table.checkpoint_zone = wp.array(np.concatenate(gates), dtype=wp.int32, device=device)
    table.checkpoint_offset = wp.array(np.cumsum([0, *gate_counts[:-1]]), dtype=wp.int32, device=device)
    table.num_checkpoints = wp.array(gate_counts, dtype=wp.int32, device=device)
    return table
