"""A racing line: the line of least curvature within the road."""

from __future__ import annotations

import numpy as np

from tm_torchrl.tracks.track import Track

ROUNDS = 6000
STRIDE = 4  # points of the centreline from one point that moves to the next


def racing_line(track: Track, *, margin_m: float = 2.0) -> np.ndarray:
    """A line that bends as little as the road allows, one point for each of the centreline, ``[P, 3]``.

    The line acts like an elastic rod between the road's edges: each point moves across the road towards where the rod
    is straightest, for a fixed number of rounds.

    Args:
        track: The track whose road to use.
        margin_m: Metres to keep from the road's edge.
    """
    line = track.centreline
    ahead = np.roll(line, -1, axis=0) - np.roll(line, 1, axis=0)
    if not track.is_circuit:
        ahead[0], ahead[-1] = line[1] - line[0], line[-1] - line[-2]
    plan = ahead[:, (0, 2)] / np.linalg.norm(ahead[:, (0, 2)], axis=1, keepdims=True)
    left = np.stack([plan[:, 1], -plan[:, 0]], axis=1)
    num = track.num_points
    count = num // STRIDE
    at = np.arange(count) * (num / count) if track.is_circuit else np.linspace(0.0, num - 1.0, count)
    period = num if track.is_circuit else None

    def sampled(values: np.ndarray) -> np.ndarray:
        return np.interp(at, np.arange(num), values, period=period)

    centre = np.stack([sampled(line[:, 0]), sampled(line[:, 2])], axis=1)
    side = np.stack([sampled(left[:, 0]), sampled(left[:, 1])], axis=1)
    room = np.maximum(sampled(track.half_width) - margin_m, 0.0)
    offset = np.zeros(len(at))
    speed = np.zeros(len(at))
    for _ in range(ROUNDS):
        points = centre + offset[:, None] * side
        bend = _second_difference(points, track.is_circuit)
        push = -(_second_difference(bend, track.is_circuit) * side).sum(axis=1)
        if not track.is_circuit:
            push[:2] = push[-2:] = 0.0
        speed = 0.9 * speed + 0.03 * push
        moved = np.clip(offset + speed, -room, room)
        speed = moved - offset
        offset = moved
    across = np.interp(np.arange(num), at, offset, period=period)
    out = line.copy()
    out[:, 0] += across * left[:, 0]
    out[:, 2] += across * left[:, 1]
    return out


def _second_difference(points: np.ndarray, is_circuit: bool) -> np.ndarray:
    out = np.roll(points, 1, axis=0) - 2.0 * points + np.roll(points, -1, axis=0)
    if not is_circuit:
        out[0] = out[-1] = 0.0
    return out
