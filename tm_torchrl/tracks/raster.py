"""The track as a 1 m grid: heights, distance to the road's edge, surfaces.

Only + - * / sqrt and comparisons in a fixed order are applied to the rounded inputs, so that a raster has the same bits
everywhere; functions such as hypot, dot or sin differ between processors and must not be used here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tm_torchrl.tracks.fill import fill_smoothly
from tm_torchrl.tracks.surfaces import Surface

if TYPE_CHECKING:
    from tm_torchrl.tracks.track import Track

MARGIN_M = 26.0  # beyond the outermost wall; bilinear sampling needs 24 whole cells
ROAD_BED_M = 2.0  # heights follow the road this far beyond the wall, so that they are right at the wall
TILE = 16


@dataclass(frozen=True, eq=False)
class Raster:
    """Grid of 1 m cells, arrays indexed ``[iz, ix]``; values belong to the point (x0 + ix, z0 + iz).

    Args:
        origin: The point (x0, z0).
        height: Float32 ``[D, W]`` in metres, interpolated along the road and banked; smooth ground beyond the walls.
        edge: Float32 ``[D, W]``, metres to the road's edge, positive on the road. The distance to the wall is
            ``edge + wall_offset``.
        surface: Uint8 ``[D, W]``, grass beside the road.
        centre_index: Float32 ``[D, W]``, fractional index of the nearest centreline point; -1 beyond the walls.
    """

    origin: tuple[float, float]
    height: np.ndarray
    edge: np.ndarray
    surface: np.ndarray
    centre_index: np.ndarray


def rasterise(track: Track) -> Raster:
    """Compute a track's raster."""
    line = track.centreline
    reach = float(track.half_width.max()) + track.wall_offset + MARGIN_M
    low_x, low_z = (
        np.floor(line[:, 0].min() - reach),
        np.floor(line[:, 2].min() - reach),
    )
    width = int(np.ceil(line[:, 0].max() + reach) - low_x) + 1
    depth = int(np.ceil(line[:, 2].max() + reach) - low_z) + 1
    x, z = low_x + np.arange(width), low_z + np.arange(depth)
    nearest = _nearest_points(line[:, 0], line[:, 2], x, z, reach=reach)
    segment, share = _foot_of(track, nearest, x, z)
    after = (segment + 1) % len(line)
    rest = 1.0 - share
    foot_x = line[segment, 0] * rest + line[after, 0] * share
    foot_z = line[segment, 2] * rest + line[after, 2] * share
    step_x, step_z = (
        line[after, 0] - line[segment, 0],
        line[after, 2] - line[segment, 2],
    )
    off_x, off_z = x[None, :] - foot_x, z[:, None] - foot_z
    distance = np.sqrt(off_x * off_x + off_z * off_z)
    is_left = step_z * off_x - step_x * off_z > 0.0
    half_width = track.half_width[segment] * rest + track.half_width[after] * share
    edge = half_width - distance
    bank = track.bank[segment] * rest + track.bank[after] * share
    road_height = line[segment, 1] * rest + line[after, 1] * share + bank * np.where(is_left, distance, -distance)
    is_walled = edge >= -track.wall_offset
    height = fill_smoothly(road_height, is_known=edge >= -(track.wall_offset + ROAD_BED_M))
    closest = np.where(share < 0.5, segment, after)
    surface = np.where(edge >= 0.0, track.surface[closest], np.uint8(Surface.GRASS))
    arrays = (
        height.astype(np.float32),
        edge.astype(np.float32),
        surface.astype(np.uint8),
        np.where(is_walled, segment + share, -1.0).astype(np.float32),
    )
    for array in arrays:
        array.setflags(write=False)
    return Raster((float(low_x), float(low_z)), *arrays)


def _nearest_points(px: np.ndarray, pz: np.ndarray, x: np.ndarray, z: np.ndarray, *, reach: float) -> np.ndarray:
    """Index of the nearest centreline point for each cell, tile by tile; tiles beyond reach share one index."""
    nearest = np.zeros((len(z), len(x)), np.int64)
    half = 0.5 * (TILE - 1)
    half_diagonal = half * 1.4143
    for j in range(0, len(z), TILE):
        rows = z[j : j + TILE]
        dz = pz - (z[j] + half)
        dz2 = dz * dz
        for i in range(0, len(x), TILE):
            dx = px - (x[i] + half)
            d2 = dx * dx + dz2
            best = int(d2.argmin())
            closest = float(np.sqrt(d2[best]))
            if closest > reach + half_diagonal:
                nearest[j : j + TILE, i : i + TILE] = best
                continue
            limit = closest + 2.0 * half_diagonal
            near = np.flatnonzero(d2 <= limit * limit)
            columns = x[i : i + TILE]
            cx = columns[:, None] - px[near]
            cz = rows[:, None] - pz[near]
            cell = (cz * cz)[:, None, :] + (cx * cx)[None, :, :]
            nearest[j : j + TILE, i : i + TILE] = near[cell.argmin(axis=2)]
    return nearest


def _foot_of(track: Track, nearest: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Segment, and share along it, at which the road's cross section passes through each cell.

    The cross section turns steadily from one point's normal to the next one's. A plain projection on segments would
    jump, and the heights with it, at every point on the inner side of a bend.
    """
    line = track.centreline
    num_points = len(line)
    px, pz = line[:, 0], line[:, 2]
    if track.is_circuit:
        tx, tz = np.roll(px, -1) - np.roll(px, 1), np.roll(pz, -1) - np.roll(pz, 1)
        last = num_points - 1
    else:
        ahead, behind = (
            np.minimum(np.arange(num_points) + 1, num_points - 1),
            np.maximum(np.arange(num_points) - 1, 0),
        )
        tx, tz = px[ahead] - px[behind], pz[ahead] - pz[behind]
        last = num_points - 2
    norm = np.sqrt(tx * tx + tz * tz)
    tx, tz = tx / norm, tz / norm
    along = (x[None, :] - px[nearest]) * tx[nearest] + (z[:, None] - pz[nearest]) * tz[nearest]
    segment = np.where(along >= 0.0, nearest, nearest - 1)
    segment = segment % num_points if track.is_circuit else np.minimum(np.maximum(segment, 0), last)
    after = (segment + 1) % num_points
    ahead_of_first = (x[None, :] - px[segment]) * tx[segment] + (z[:, None] - pz[segment]) * tz[segment]
    short_of_second = (px[after] - x[None, :]) * tx[after] + (pz[after] - z[:, None]) * tz[after]
    whole = ahead_of_first + short_of_second
    share = ahead_of_first / np.where(whole > 1e-9, whole, 1.0)
    return segment, np.where(whole > 1e-9, np.minimum(np.maximum(share, 0.0), 1.0), 0.0)
