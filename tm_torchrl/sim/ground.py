"""The ground under the cars: the rasters of all tracks in one array, and how a kernel samples it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import warp as wp

from tm_torchrl.tracks import Track

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.struct
class Ground:
    """Concatenated rasters, 1 m cells: height and signed distance to the road edge, and material ids."""

    shape: wp.array(dtype=wp.vec2)  # height, distance to the road edge (positive on the road)
    material: wp.array(dtype=wp.uint8)
    offset: wp.array(dtype=wp.int32)  # per track: first cell
    width: wp.array(dtype=wp.int32)
    depth: wp.array(dtype=wp.int32)
    origin: wp.array(dtype=wp.vec2)
    wall_offset: wp.array(dtype=wp.float32)


@wp.struct
class Plot:
    """Where one track's cells lie in the ground."""

    offset: wp.int32
    width: wp.int32
    max_x: wp.float32
    max_z: wp.float32
    origin_x: wp.float32
    origin_z: wp.float32
    wall_offset: wp.float32


@wp.struct
class Sample:
    """Height and distance to the road edge at a point, with their slopes."""

    height: wp.float32
    height_x: wp.float32
    height_z: wp.float32
    edge: wp.float32
    edge_x: wp.float32
    edge_z: wp.float32
    cell: wp.int32


@wp.func
def plot_of(ground: Ground, track: int) -> Plot:
    """Look up where a track's cells lie, once per launch."""
    plot = Plot()
    plot.offset = ground.offset[track]
    plot.width = ground.width[track]
    plot.max_x = float(plot.width) - 1.001
    plot.max_z = float(ground.depth[track]) - 1.001
    plot.origin_x = ground.origin[track][0]
    plot.origin_z = ground.origin[track][1]
    plot.wall_offset = ground.wall_offset[track]
    return plot


@wp.func
def sample(ground: Ground, plot: Plot, x: float, z: float) -> Sample:
    """Bilinear sample; a point outside the raster, or NaN, reads its border."""
    cell_x = wp.min(wp.max(x - plot.origin_x, 0.0), plot.max_x)
    cell_z = wp.min(wp.max(z - plot.origin_z, 0.0), plot.max_z)
    i = int(cell_x)
    j = int(cell_z)
    u = cell_x - float(i)
    v = cell_z - float(j)
    cell = plot.offset + j * plot.width + i
    a = ground.shape[cell]
    b = ground.shape[cell + 1]
    c = ground.shape[cell + plot.width]
    d = ground.shape[cell + plot.width + 1]
    along_x = b - a
    along_z = c - a
    twist = d - c - b + a
    value = a + along_x * u + along_z * v + twist * (u * v)
    slope_x = along_x + twist * v
    slope_z = along_z + twist * u
    out = Sample()
    out.height = value[0]
    out.height_x = slope_x[0]
    out.height_z = slope_z[0]
    out.edge = value[1]
    out.edge_x = slope_x[1]
    out.edge_z = slope_z[1]
    out.cell = cell
    return out


def build_ground(tracks: Sequence[Track], *, device: str) -> Ground:
    """Copy the rasters of all tracks to a device."""
    rasters = [track.raster for track in tracks]
    cells = [raster.height.size for raster in rasters]
    shape = np.concatenate([np.stack([r.height, r.edge], axis=-1).reshape(-1, 2) for r in rasters])
    ground = Ground()
    ground.shape = wp.array(shape.astype(np.float32), dtype=wp.vec2, device=device)
    ground.material = wp.array(np.concatenate([r.surface.reshape(-1) for r in rasters]), dtype=wp.uint8, device=device)
    ground.offset = wp.array(np.cumsum([0, *cells[:-1]]), dtype=wp.int32, device=device)
    ground.width = wp.array([r.height.shape[1] for r in rasters], dtype=wp.int32, device=device)
    ground.depth = wp.array([r.height.shape[0] for r in rasters], dtype=wp.int32, device=device)
    ground.origin = wp.array(np.array([r.origin for r in rasters], np.float32), dtype=wp.vec2, device=device)
    ground.wall_offset = wp.array([float(t.wall_offset) for t in tracks], dtype=wp.float32, device=device)
    return ground
