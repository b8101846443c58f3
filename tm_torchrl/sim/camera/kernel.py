"""The camera's kernel: one thread per image column marches over the painted ground, front to back.

A level camera over a heightfield ("voxel space"): each sample of ground along the column's ray covers the pixels
from its projected row down to the highest row covered so far. Only + - * / and square roots, and nothing here sees
another car.
"""

import warp as wp

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

BACK_M = wp.constant(9.0)
UP_M = wp.constant(5.0)
MIN_CLEARANCE_M = wp.constant(1.5)  # of the camera above the ground
MAX_PITCH = wp.constant(0.6)  # slopes; a tumbling car must not take the camera along
MAX_ROLL = wp.constant(0.5)
HEIGHT_STEP_M = wp.constant(1.0 / 1024.0)


@wp.struct
class Panorama:
    """All tracks' cells at all levels of detail, height (24 bits) and shade (8 bits) packed in one word."""

    cells: wp.array(dtype=wp.uint32)
    offset: wp.array(dtype=wp.int32)  # [track * num_levels + level]
    width: wp.array(dtype=wp.int32)  # [track * num_levels + level]
    origin: wp.array(dtype=wp.vec2)  # [track], x and z of the first cell's corner
    extent: wp.array(dtype=wp.vec2)  # [track], metres
    lowest: wp.array(dtype=wp.float32)  # [track], height of packed 0
    highest: wp.array(dtype=wp.float32)


@wp.struct
class Lens:
    """Where the samples lie and how they project."""

    focal: wp.float32  # pixels
    horizon: wp.float32  # row of the horizon for a level car
    size: wp.int32
    num_levels: wp.int32
    level_end: wp.array(dtype=wp.int32)  # [num_levels], first sample of the next level
    inverse_cell: wp.array(dtype=wp.float32)  # [num_levels]
    samples: wp.array(dtype=wp.vec2)  # distance and its inverse
    sky: wp.uint8
    haze: wp.uint8


@wp.func
def bounded(value: float, low: float, high: float) -> float:
    """Clamp; not-a-number becomes ``low``."""
    if value > low:
        return wp.min(value, high)
    return low


@wp.kernel(enable_backward=False)
def render(
    panorama: Panorama,
    lens: Lens,
    rows: wp.array2d(dtype=wp.float32),
    at_position: int,
    at_rotation: int,
    track_index: wp.array(dtype=wp.int32),
    out: wp.array(dtype=wp.uint8),
):
    """Write one column of one car's picture."""
    car, column = wp.tid()
    track = track_index[car]
    size = lens.size

    ahead_x = rows[car, at_rotation + 2]
    ahead_y = rows[car, at_rotation + 5]
    ahead_z = rows[car, at_rotation + 8]
    flat = ahead_x * ahead_x + ahead_z * ahead_z
    if not (flat > 1.0e-6 and flat < 4.0):
        ahead_x = 0.0
        ahead_y = 0.0
        ahead_z = 1.0
        flat = 1.0
    scale = 1.0 / wp.sqrt(flat)
    ahead_x = ahead_x * scale
    ahead_z = ahead_z * scale
    pitch = bounded(ahead_y * scale, -MAX_PITCH, MAX_PITCH)
    upright = wp.max(wp.abs(rows[car, at_rotation + 4]), 0.1)
    roll = bounded(rows[car, at_rotation + 3] / upright, -MAX_ROLL, MAX_ROLL)

    extent = panorama.extent[track]
    x = bounded(rows[car, at_position] - panorama.origin[track][0] - BACK_M * ahead_x, 1.0, extent[0] - 1.0)
    z = bounded(rows[car, at_position + 2] - panorama.origin[track][1] - BACK_M * ahead_z, 1.0, extent[1] - 1.0)
    lowest = panorama.lowest[track]
    base = track * lens.num_levels
    cell = panorama.offset[base] + int(z * lens.inverse_cell[0]) * panorama.width[base] + int(x * lens.inverse_cell[0])
    under = float(panorama.cells[cell] >> wp.uint32(8)) * HEIGHT_STEP_M
    above = rows[car, at_position + 1] + UP_M - BACK_M * pitch - lowest
    y = bounded(above, under + MIN_CLEARANCE_M, panorama.highest[track] - lowest + 300.0)

    across = (0.5 * float(size) - 0.5 - float(column)) / lens.focal
    step_x = ahead_x + ahead_z * across
    step_z = ahead_z - ahead_x * across
    reach = float(1.0e9)
    if step_x > 0.0:
        reach = wp.min(reach, (extent[0] - x) / step_x)
    if step_x < 0.0:
        reach = wp.min(reach, -x / step_x)
    if step_z > 0.0:
        reach = wp.min(reach, (extent[1] - z) / step_z)
    if step_z < 0.0:
        reach = wp.min(reach, -z / step_z)
    reach = reach * 0.999

    horizon = lens.horizon + lens.focal * (pitch + roll * across) + 0.5
    lift = lens.focal * y
    drop = lens.focal * HEIGHT_STEP_M
    bottom = size
    pixel = (car * size + size - 1) * size + column
    n = int(0)
    for level in range(lens.num_levels):
        inverse_cell = lens.inverse_cell[level]
        offset = panorama.offset[base + level]
        width = panorama.width[base + level]
        cell_x = x * inverse_cell
        cell_z = z * inverse_cell
        cell_step_x = step_x * inverse_cell
        cell_step_z = step_z * inverse_cell
        end = lens.level_end[level]
        while n < end:
            sample = lens.samples[n]
            t = sample[0]
            if t > reach:
                break
            i = int(cell_x + cell_step_x * t)
            j = int(cell_z + cell_step_z * t)
            seen = panorama.cells[offset + j * width + i]
            row = int(horizon + (lift - drop * float(seen >> wp.uint32(8))) * sample[1])
            row = wp.max(row, 0)
            if row < bottom:
                shade = wp.uint8(seen & wp.uint32(255))
                while bottom > row:
                    out[pixel] = shade
                    pixel -= size
                    bottom -= 1
            n += 1
        if n < end:
            break
    skyline = wp.clamp(int(horizon), 0, size)
    while bottom > skyline:
        out[pixel] = lens.haze
        pixel -= size
        bottom -= 1
    while bottom > 0:
        out[pixel] = lens.sky
        pixel -= size
        bottom -= 1
