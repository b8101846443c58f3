"""Whether a road keeps clear of itself: its walls must not overlap, and bends must not be tighter than their wall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tm_torchrl.tracks.track import Track

STRIDE = 2  # points of the centreline from one that is compared to the next


@dataclass(frozen=True)
class Clearance:
    """How near a track comes to itself.

    Args:
        gap_m: Metres between the walls of the two nearest stretches; negative if they overlap.
        first_m: Where the first stretch lies along the centreline, in metres.
        second_m: Where the other lies.
    """

    gap_m: float
    first_m: int
    second_m: int


def self_clearance(track: Track) -> Clearance:
    """Find the two stretches of a track that come nearest to each other.

    Points less than 1.7 wall-to-wall widths apart along the road are neighbours and do not count: a bend whose radius
    is the wall's distance needs pi/2 of that width for a half turn.
    """
    wall = (track.half_width + track.wall_offset)[::STRIDE]
    x, z = track.centreline[::STRIDE, 0], track.centreline[::STRIDE, 2]
    index = np.arange(len(x))
    period = track.num_points
    gap, pair = np.inf, (0, 0)
    for low in range(0, len(x), 256):
        rows = index[low : low + 256]
        apart = np.abs(rows[:, None] - index[None, :]) * STRIDE
        if track.is_circuit:
            apart = np.minimum(apart, period - apart)
        dx, dz = x[rows, None] - x[None, :], z[rows, None] - z[None, :]
        both = wall[rows, None] + wall[None, :]
        between = np.where(apart > 1.7 * both, np.sqrt(dx * dx + dz * dz) - both, np.inf)
        best = int(between.argmin())
        if between.flat[best] < gap:
            gap = float(between.flat[best])
            pair = (int(rows[best // len(x)]), best % len(x))
    first, second = sorted(STRIDE * i for i in pair)
    return Clearance(gap, first, second)


def tightest_bend(track: Track) -> tuple[float, int]:
    """Smallest difference of a bend's radius and its wall's distance, in metres, and its index on the centreline."""
    spread = 3
    line = track.centreline
    if track.is_circuit:
        a, b = np.roll(line, spread, axis=0), np.roll(line, -spread, axis=0)
        wall = track.half_width + track.wall_offset
        middle = line
    else:
        a, middle, b = line[: -2 * spread], line[spread:-spread], line[2 * spread :]
        wall = (track.half_width + track.wall_offset)[spread:-spread]
    ux, uz = middle[:, 0] - a[:, 0], middle[:, 2] - a[:, 2]
    vx, vz = b[:, 0] - middle[:, 0], b[:, 2] - middle[:, 2]
    wx, wz = b[:, 0] - a[:, 0], b[:, 2] - a[:, 2]
    twice_area = np.abs(ux * vz - uz * vx)
    sides = np.sqrt(ux * ux + uz * uz) * np.sqrt(vx * vx + vz * vz) * np.sqrt(wx * wx + wz * wz)
    radius = sides / np.maximum(2.0 * twice_area, 1e-9)
    worst = int((radius - wall).argmin())
    return float((radius - wall)[worst]), worst if track.is_circuit else worst + spread


def require_clearance(track: Track) -> None:
    """Raise a ``ValueError`` if the walls of two stretches overlap."""
    near = self_clearance(track)
    if near.gap_m < 0.0:
        raise ValueError(
            f"track {track.name!r} touches itself: its walls overlap by {-near.gap_m:.1f} m "
            f"between {near.first_m} m and {near.second_m} m along its centreline. The simulator has "
            f"no bridges: choose a smaller half_width or wall_offset, or another line"
        )
