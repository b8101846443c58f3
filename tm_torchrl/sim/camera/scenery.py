"""A track's raster painted for the camera, with raised walls, lines and hill shading; numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from tm_torchrl.tracks import Surface, Track

CELL_M = 0.5  # half the track raster's cell, so that lines have sharp edges without interpolation in the renderer
WALL_HEIGHT_M = 1.8
LINE_WIDTH_M = 0.8
DASH_PERIOD_M = 12.0
DASH_WIDTH_M = 0.5


class Paint(IntEnum):
    """What covers a cell."""

    GRASS = 0
    DIRT = 1
    ASPHALT = 2
    TURBO = 3
    TURBO2 = 4
    FREEWHEELING = 5
    LINE = 6
    WALL = 7
    BACKDROP = 8
    GATE = 9


Palette = Mapping[Paint, Any]  # a shade of grey or an RGB triple per paint

GREY: Palette = {
    Paint.GRASS: 72,
    Paint.DIRT: 165,
    Paint.ASPHALT: 118,
    Paint.TURBO: 205,
    Paint.TURBO2: 240,
    Paint.FREEWHEELING: 145,
    Paint.LINE: 255,
    Paint.WALL: 14,
    Paint.BACKDROP: 44,
    Paint.GATE: 225,
}
SKY_GREY = 220
HAZE_GREY = 100  # ground beyond the last sample

COLOUR: Palette = {
    Paint.GRASS: (88, 140, 66),
    Paint.DIRT: (176, 126, 80),
    Paint.ASPHALT: (104, 108, 116),
    Paint.TURBO: (247, 196, 60),
    Paint.TURBO2: (230, 66, 56),
    Paint.FREEWHEELING: (150, 120, 190),
    Paint.LINE: (244, 244, 238),
    Paint.WALL: (52, 60, 78),
    Paint.BACKDROP: (62, 104, 58),
    Paint.GATE: (90, 200, 235),
}

_SURFACE_PAINT = {
    Surface.GRASS: Paint.GRASS,
    Surface.DIRT: Paint.DIRT,
    Surface.TURBO: Paint.TURBO,
    Surface.ASPHALT: Paint.ASPHALT,
    Surface.TURBO2: Paint.TURBO2,
    Surface.FREEWHEELING: Paint.FREEWHEELING,
}


@dataclass(frozen=True, eq=False)
class Scenery:
    """A painted track; arrays are indexed ``[iz, ix]``, values belong to cell centres.

    Args:
        origin: The corner (x, z) of the first cell.
        cell_m: Size of a cell.
        height: Heights in metres with the walls, float32 ``[D, W]``.
        tone: Grey or RGB values from 0 to 255, float32 ``[D, W, C]``.
    """

    origin: tuple[float, float]
    cell_m: float
    height: np.ndarray
    tone: np.ndarray


def paint_track(track: Track, *, palette: Palette = GREY, cell_m: float = CELL_M) -> Scenery:
    """Paint a track's raster with the shades or colours of a palette."""
    raster = track.raster
    depth, width = raster.height.shape
    at_z = ((np.arange(int((depth - 1) / cell_m)) + 0.5) * cell_m).astype(np.float32)
    at_x = ((np.arange(int((width - 1) / cell_m)) + 0.5) * cell_m).astype(np.float32)
    height = _interpolate(raster.height, at_z, at_x)
    edge = _interpolate(raster.edge, at_z, at_x)
    along = raster.centre_index[np.ix_(np.rint(at_z).astype(int), np.rint(at_x).astype(int))]
    index = np.clip(np.rint(along), 0, len(track.half_width) - 1).astype(int)

    shades = np.array([palette[paint] for paint in Paint], np.float32).reshape(len(Paint), -1)
    road = np.full(256, Paint.GRASS, np.uint8)
    for surface_id, paint in _SURFACE_PAINT.items():
        road[surface_id] = paint
    tone = np.full((*edge.shape, shades.shape[1]), shades[Paint.GRASS], np.float32)
    _lay(tone, shades[road[track.surface[index]]], _share(edge, cell_m))
    _lay(tone, shades[Paint.GATE], _near_gates(track, along) & (edge > 0))
    middle = track.half_width[index].astype(np.float32) - edge
    is_dash = (along >= 0) & (np.mod(along, DASH_PERIOD_M) < DASH_PERIOD_M / 2)
    _lay(tone, shades[Paint.LINE], _share(DASH_WIDTH_M / 2 - middle, cell_m) * is_dash)
    _lay(tone, shades[Paint.LINE], _share(LINE_WIDTH_M / 2 - np.abs(edge - LINE_WIDTH_M / 2), cell_m))
    beyond = -edge - np.float32(track.wall_offset)
    _lay(tone, shades[Paint.WALL], _share(beyond, cell_m))
    _lay(tone, shades[Paint.BACKDROP], np.clip((beyond - 4.0) / 6.0, 0.0, 1.0))

    tone = np.clip(tone * _hill_light(height, cell_m)[..., None], 0.0, 255.0)
    raised = height + np.float32(WALL_HEIGHT_M) * np.clip(beyond / cell_m, 0.0, 1.0)
    return Scenery(raster.origin, cell_m, raised.astype(np.float32), tone)


def _interpolate(field: np.ndarray, at_z: np.ndarray, at_x: np.ndarray) -> np.ndarray:
    """Bilinear values of a raster at every pair of rows and columns."""
    j, i = at_z.astype(int), at_x.astype(int)
    v, u = (at_z - j).astype(np.float32)[:, None], (at_x - i).astype(np.float32)
    columns = field[:, i] * (1 - u) + field[:, i + 1] * u
    return (columns[j] * (1 - v) + columns[j + 1] * v).astype(np.float32)


def _share(depth: np.ndarray, cell_m: float) -> np.ndarray:
    """Share of a cell inside a border that lies ``depth`` metres behind its centre."""
    return np.clip(depth / cell_m + 0.5, 0.0, 1.0).astype(np.float32)


def _lay(tone: np.ndarray, shade: np.ndarray, share: np.ndarray) -> None:
    """Cover a share of each cell with a shade, in place."""
    tone += share.astype(np.float32)[..., None] * (shade - tone)


def _near_gates(track: Track, along: np.ndarray) -> np.ndarray:
    """Cells within a metre of a checkpoint or the finish line."""
    count = len(track.centreline)
    near = np.zeros(along.shape, bool)
    for gate in (*track.checkpoints, track.finish):
        apart = np.abs(along - gate)
        if track.is_circuit:
            apart = np.minimum(apart, count - apart)
        near |= (apart <= 1.0) & (along >= 0)
    return near


def _hill_light(height: np.ndarray, cell_m: float) -> np.ndarray:
    """Brightness by slope, lit from the north-west."""
    slope_z, slope_x = np.gradient(height, cell_m)
    return np.clip(1.0 + 0.9 * (slope_x - 0.5 * slope_z), 0.6, 1.4).astype(np.float32)
