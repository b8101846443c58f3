"""A plausible speed for every point of a track, for random starts and scripted drivers."""

from __future__ import annotations

import numpy as np

from tm_torchrl.tracks.track import Track

TOP_SPEED = 110.0  # m/s
STANDING_START = 8.0  # m/s; at 0 a driver that obeys the profile would never set off
REACH_M = 4  # curvature is measured over this many metres to each side


def speed_profile(
    track: Track,
    *,
    lateral_acceleration: float = 48.0,
    braking: float = 16.0,
    top_speed: float = TOP_SPEED,
    line: np.ndarray | None = None,
) -> np.ndarray:
    """The largest speed that corners, braking and the engine allow, float64 ``[P]`` in m/s.

    Args:
        track: The track to drive on.
        lateral_acceleration: Sideways acceleration in corners, in m/s^2.
        braking: Deceleration before corners, in m/s^2.
        top_speed: Speed that is never exceeded, in m/s.
        line: Points ``[P, 3]`` to drive along, such as a racing line; the centreline by default.
    """
    speed = np.minimum(np.sqrt(lateral_acceleration / np.maximum(curvature(track, line=line), 1e-6)), top_speed)
    num = len(speed)
    rounds = 2 if track.is_circuit else 1
    for k in range(rounds * num - 1, 0, -1):  # backwards: brake in time
        i, before = k % num, (k - 1) % num
        speed[before] = min(speed[before], np.sqrt(speed[i] ** 2 + 2.0 * braking))
    if not track.is_circuit:
        speed[: track.start + 1] = STANDING_START
    for k in range(max(track.start, 0) + 1, rounds * num):  # forwards: the engine falls off with speed
        i, before = k % num, (k - 1) % num
        engine = max(16.0 / (1.0 + speed[before] / 35.0), 1.0)
        speed[i] = min(speed[i], np.sqrt(speed[before] ** 2 + 2.0 * engine))
    return speed


def curvature(track: Track, *, line: np.ndarray | None = None) -> np.ndarray:
    """Curvature on the map of the centreline, or of another line along it, ``[P]`` in 1/m."""
    plan = (track.centreline if line is None else line)[:, (0, 2)]
    if track.is_circuit:
        behind, ahead = np.roll(plan, REACH_M, axis=0), np.roll(plan, -REACH_M, axis=0)
    else:
        padded = np.pad(plan, ((REACH_M, REACH_M), (0, 0)), mode="reflect", reflect_type="odd")
        behind, ahead = padded[: len(plan)], padded[2 * REACH_M :]
    a, b, c = plan - behind, ahead - plan, ahead - behind
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1) * np.linalg.norm(c, axis=1)
    return 2.0 * area / np.maximum(lengths, 1e-9)
