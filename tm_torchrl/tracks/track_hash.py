"""A short text that two tracks share only if they are the same road."""

from __future__ import annotations

import hashlib

import numpy as np

from tm_torchrl.tracks.track import Track


def track_hash(track: Track) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all that defines a track but its name.

    >>> line = np.stack([np.zeros(100), np.zeros(100), np.arange(100.0)], axis=1)
    >>> straight, renamed, narrow = Track("a", line), Track("b", line), Track("a", line, half_width=np.array(6.0))
    >>> track_hash(straight) == track_hash(renamed), track_hash(straight) == track_hash(narrow)
    (True, False)
    """
    digest = hashlib.sha256()
    for array in (track.centreline, track.half_width, track.bank, track.surface, track.checkpoints):
        digest.update(np.ascontiguousarray(array).astype("<f8").tobytes())
    numbers = (track.wall_offset, track.is_circuit, track.num_laps, track.start, track.finish)
    digest.update(np.array(numbers, "<f8").tobytes())
    return digest.hexdigest()[:16]
