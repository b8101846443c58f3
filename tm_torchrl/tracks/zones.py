"""Virtual checkpoints: a chain of points half a metre apart along the race, as in Linesight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tm_torchrl.tracks.track import Track

ZONE_SPACING_M = 0.5
NUM_BEFORE = 20  # zones before the start, which is therefore the index of the start zone
NUM_AFTER = 1000  # zones after the finish
MAX_FALL = 0.4  # metres per metre; where the road falls faster (a jump) cars fly, and the line follows them


@dataclass(frozen=True, eq=False)
class Zones:
    """Zone centres over all laps and the transitions between them, as in Linesight's map loader.

    Transition ``i`` is the midpoint of centres ``i`` and ``i + 1``. With a car at ``p`` in zone ``i``, its progress is
    ``distance[i-1] + clip((p - transitions[i-1]) . tangents[i-1], 0, lengths[i-1])``.

    Args:
        centers: Float32 ``[Z, 3]``; ``NUM_BEFORE`` lie before the start, ``NUM_AFTER`` after the finish.
        transitions: Float32 ``[Z - 1, 3]``.
        tangents: Float32 ``[Z - 1, 3]``, unit vectors from transition ``i`` to the next; the last is repeated.
        lengths: Float32 ``[Z - 1]``, metres from transition ``i`` to the next; the last is repeated.
        distance: Float32 ``[Z]``, metres from transition 0 to transition ``i``; the last one is one length further.
        checkpoint_zones: Int32 ``[G * laps]``, the zone at each gate of the race in passing order, the finish last.
    """

    centers: np.ndarray
    transitions: np.ndarray
    tangents: np.ndarray
    lengths: np.ndarray
    distance: np.ndarray
    checkpoint_zones: np.ndarray


def flight_line(track: Track) -> np.ndarray:
    """The centreline with the drops behind jumps bridged, float64 ``[P, 3]``.

    If the zones went down a jump's back face, none of them would be the nearest to a car that flies over it.
    """
    line = track.centreline.copy()
    height = line[:, 1].tolist()
    num_points = len(height)
    steps = range(1, 2 * num_points) if track.is_circuit else range(1, num_points)
    for i in steps:
        height[i % num_points] = max(height[i % num_points], height[(i - 1) % num_points] - MAX_FALL)
    line[:, 1] = height
    return line


def _norm(vectors: np.ndarray) -> np.ndarray:
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    length: np.ndarray = np.sqrt(x * x + y * y + z * z)
    return length


def _run_of(points: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(_norm(points[1:] - points[:-1]))])


def _race_run(track: Track) -> tuple[np.ndarray, float]:
    """Metres from the start to each gate of one lap (the finish last), and the length of a lap in metres."""
    line = flight_line(track)
    if track.is_circuit:
        num_points = len(line)
        order = (track.start + np.arange(num_points + 1)) % num_points
        run = _run_of(line[order])
        gates = np.append((track.checkpoints - track.start) % num_points, num_points)
    else:
        run = _run_of(line[track.start : track.finish + 1])
        gates = np.append(track.checkpoints, track.finish) - track.start
    return run[gates], float(run[-1])


def race_length(track: Track) -> float:
    """Length of the race over all laps, in metres."""
    return _race_run(track)[1] * track.num_laps


def _endless_line(track: Track, race_m: float) -> tuple[np.ndarray, int]:
    """Points that cover the race and enough road at both ends, and the index of the start among them."""
    line = flight_line(track)
    num_points = len(line)
    after_m = NUM_AFTER * ZONE_SPACING_M + 20.0
    if track.is_circuit:
        lead = int(NUM_BEFORE * ZONE_SPACING_M) * 2
        count = lead + int(1.25 * (race_m + after_m)) + 2
        return line[(track.start - lead + np.arange(count)) % num_points], lead
    ahead = line[-1] + (line[-1] - line[-6]) / 5.0 * 2.0 * after_m
    behind = line[0] + (line[0] - line[5]) / 5.0 * 4.0 * NUM_BEFORE
    return np.concatenate([behind[None], line, ahead[None]]), track.start + 1


def _points_along(track: Track, *, num_before: int, num_after: int) -> np.ndarray:
    """Points 0.5 m apart along the race, with further ones before the start and after the finish."""
    race_m = race_length(track)
    line, origin = _endless_line(track, race_m)
    run = _run_of(line)
    num_race = int(np.floor(race_m / ZONE_SPACING_M + 0.5)) + 1
    at = run[origin] + ZONE_SPACING_M * (np.arange(num_before + num_race + num_after) - num_before)
    left = np.searchsorted(run, at, side="right") - 1
    share = ((at - run[left]) / (run[left + 1] - run[left]))[:, None]
    points: np.ndarray = line[left] + (line[left + 1] - line[left]) * share
    return points


def race_points(track: Track) -> np.ndarray:
    """Points 0.5 m apart from the start to the finish over all laps, float64 ``[N, 3]``; not smoothed."""
    return _points_along(track, num_before=0, num_after=0)


def zones_of(track: Track) -> Zones:
    """The zones of a race: 0.5 m apart along the line, then smoothed over 5 zones to each side."""
    gate_run, lap_m = _race_run(track)
    centers = _points_along(track, num_before=NUM_BEFORE, num_after=NUM_AFTER)
    centers[5:-5] = 0.5 * (centers[:-10] + centers[10:])
    transitions = 0.5 * (centers[1:] + centers[:-1])
    steps = transitions[1:] - transitions[:-1]
    steps = np.concatenate([steps, steps[-1:]])
    lengths = _norm(steps)
    if not (lengths > 1e-6).all():
        raise ValueError(
            f"track {track.name!r}: its line turns back on itself {0.5 * (int(lengths.argmin()) - NUM_BEFORE):.0f} m "
            "after the start, so it has no direction there; use a line that only goes forwards"
        )
    laps = np.arange(track.num_laps)[:, None] * lap_m
    at_gates = NUM_BEFORE + np.floor((laps + gate_run[None]).reshape(-1) / ZONE_SPACING_M + 0.5)
    return Zones(
        centers=_frozen(centers.astype(np.float32)),
        transitions=_frozen(transitions.astype(np.float32)),
        tangents=_frozen((steps / lengths[:, None]).astype(np.float32)),
        lengths=_frozen(lengths.astype(np.float32)),
        distance=_frozen(np.concatenate([[0.0], np.cumsum(lengths)]).astype(np.float32)),
        checkpoint_zones=_frozen(at_gates.astype(np.int32)),
    )


def gate_table(track: Track) -> np.ndarray:
    """The array of :attr:`Track.gates`."""
    index = np.append(track.checkpoints, track.finish)
    num_points = track.num_points
    if track.is_circuit:
        before, behind = (index - 1) % num_points, (index + 1) % num_points
    else:
        before, behind = np.maximum(index - 1, 0), np.minimum(index + 1, num_points - 1)
    step = track.centreline[behind] - track.centreline[before]
    gates = np.zeros((len(index), 8))
    gates[:, :3] = track.centreline[index]
    gates[:, 3:6] = step / _norm(step)[:, None]
    gates[:, 6] = track.half_width[index] + track.wall_offset
    return _frozen(gates)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
