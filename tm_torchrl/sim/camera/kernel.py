"""The camera's kernel: one thread per image column marches over the painted ground, front to back.

A level camera over a heightfield ("voxel space"): each sample of ground along the column's ray covers the pixels
from its projected row down to the highest row covered so far. Only + - * / and square roots are used, and cars do not
see each other.
"""

import warp as wp

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

BACK_M = wp.constant(9.0)
UP_M = wp.constant(5.0)
MIN_CLEARANCE_M = wp.constant(1.5)  # of the camera above the ground
MAX_PITCH = wp.constant(0.6)  # slopes; the camera does not tumble with the car
MAX_ROLL = wp.constant(0.5)
HEIGHT_STEP_M = wp.constant(1.0 / 1024.0)


@wp.struct
class Panorama:
    """All tracks' cells at all levels of detail; height (24 bits) and shade (8 bits) are packed in one word."""

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


@wp.struct
class Eye:
    """Where the camera is above a track's lowest corner and where it looks."""

    x: wp.float32
    y: wp.float32
    z: wp.float32
    ahead_x: wp.float32  # unit vector on the map
    ahead_z: wp.float32
    pitch: wp.float32  # slopes
    roll: wp.float32


@wp.func
def bounded(value: float, low: float, high: float) -> float:
    """Clamp; NaN becomes ``low``."""
    if value > low:
        return wp.min(value, high)
    return low


@wp.func
def eye_of(
    panorama: Panorama,
    lens: Lens,
    rows: wp.array2d(dtype=wp.float32),
    at_position: int,
    at_rotation: int,
    car: int,
    track: int,
) -> Eye:
    """The camera behind and above a car, always inside the track's cells and above the ground."""
    eye = Eye()
    eye.ahead_x = rows[car, at_rotation + 2]
    ahead_y = rows[car, at_rotation + 5]
    eye.ahead_z = rows[car, at_rotation + 8]
    flat = eye.ahead_x * eye.ahead_x + eye.ahead_z * eye.ahead_z
    if not (flat > 1.0e-6 and flat < 4.0):
        eye.ahead_x = 0.0
        ahead_y = 0.0
        eye.ahead_z = 1.0
        flat = 1.0
    scale = 1.0 / wp.sqrt(flat)
    eye.ahead_x = eye.ahead_x * scale
    eye.ahead_z = eye.ahead_z * scale
    eye.pitch = bounded(ahead_y * scale, -MAX_PITCH, MAX_PITCH)
    upright = wp.max(wp.abs(rows[car, at_rotation + 4]), 0.1)
    eye.roll = bounded(rows[car, at_rotation + 3] / upright, -MAX_ROLL, MAX_ROLL)

    extent = panorama.extent[track]
    eye.x = bounded(rows[car, at_position] - panorama.origin[track][0] - BACK_M * eye.ahead_x, 1.0, extent[0] - 1.0)
    eye.z = bounded(rows[car, at_position + 2] - panorama.origin[track][1] - BACK_M * eye.ahead_z, 1.0, extent[1] - 1.0)
    lowest = panorama.lowest[track]
    base = track * lens.num_levels
    row = int(eye.z * lens.inverse_cell[0])
    cell = panorama.offset[base] + row * panorama.width[base] + int(eye.x * lens.inverse_cell[0])
    under = float(panorama.cells[cell] >> wp.uint32(8)) * HEIGHT_STEP_M
    above = rows[car, at_position + 1] + UP_M - BACK_M * eye.pitch - lowest
    eye.y = bounded(above, under + MIN_CLEARANCE_M, panorama.highest[track] - lowest + 300.0)
    return eye


@wp.func
def reach_of(eye: Eye, extent: wp.vec2, step_x: float, step_z: float) -> float:
    """How far a ray stays inside the track's cells."""
    reach = float(1.0e9)
    if step_x > 0.0:
        reach = wp.min(reach, (extent[0] - eye.x) / step_x)
    if step_x < 0.0:
        reach = wp.min(reach, -eye.x / step_x)
    if step_z > 0.0:
        reach = wp.min(reach, (extent[1] - eye.z) / step_z)
    if step_z < 0.0:
        reach = wp.min(reach, -eye.z / step_z)
    return reach * 0.999


@wp.func
def paint(out: wp.array(dtype=wp.uint8), first: int, size: int, bottom: int, top: int, shade: wp.uint8) -> int:
    """Paint a column's rows from above ``bottom`` up to ``top``; returns the new bottom. ``first`` is its row 0."""
    pixel = first + (bottom - 1) * size
    while bottom > top:
        out[pixel] = shade
        pixel -= size
        bottom -= 1
    return bottom


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
    """Draw one column of one car's picture, from its lowest row upwards."""
    car, column = wp.tid()
    track = track_index[car]
    size = lens.size

    eye = eye_of(panorama, lens, rows, at_position, at_rotation, car, track)
    base = track * lens.num_levels
    across = (0.5 * float(size) - 0.5 - float(column)) / lens.focal
    step_x = eye.ahead_x + eye.ahead_z * across
    step_z = eye.ahead_z - eye.ahead_x * across
    reach = reach_of(eye, panorama.extent[track], step_x, step_z)
    horizon = lens.horizon + lens.focal * (eye.pitch + eye.roll * across) + 0.5
    lift = lens.focal * eye.y
    drop = lens.focal * HEIGHT_STEP_M
    first = car * size * size + column
    bottom = size
    n = int(0)
    for level in range(lens.num_levels):
        inverse_cell = lens.inverse_cell[level]
        offset = panorama.offset[base + level]
        width = panorama.width[base + level]
        cell_x = eye.x * inverse_cell
        cell_z = eye.z * inverse_cell
        cell_step_x = step_x * inverse_cell
        cell_step_z = step_z * inverse_cell
        end = lens.level_end[level]
        while n < end:
            sample = lens.samples[n]
            distance = sample[0]
            if distance > reach:
                break
            i = int(cell_x + cell_step_x * distance)
            j = int(cell_z + cell_step_z * distance)
            seen = panorama.cells[offset + j * width + i]
            row = int(horizon + (lift - drop * float(seen >> wp.uint32(8))) * sample[1])
            row = wp.max(row, 0)
            if row < bottom:
                bottom = paint(out, first, size, bottom, row, wp.uint8(seen & wp.uint32(255)))
            n += 1
        if n < end:
            break
    bottom = paint(out, first, size, bottom, wp.clamp(int(horizon), 0, size), lens.haze)
    bottom = paint(out, first, size, bottom, 0, lens.sky)
