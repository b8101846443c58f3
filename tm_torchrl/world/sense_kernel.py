"""The sensor kernel: car row, tracker row and track in, float observation out.

It reads only what the game reports too.
"""

import warp as wp

from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.observation import FINISH_ANNOUNCED_M, NUM_ZONES_AHEAD, ZONES_PER_POINT
from tm_torchrl.world.tracker_kernels import GEARBOX_COUNTER, PREVIOUS_ACTIONS, PROGRESS, ZONE
from tm_torchrl.world.zone_table import ZoneTable

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

POSITION = wp.constant(CAR_ROW.start("position"))
ROTATION = wp.constant(CAR_ROW.start("rotation"))
VELOCITY = wp.constant(CAR_ROW.start("velocity"))
SPIN = wp.constant(CAR_ROW.start("angular_velocity"))
SLIDING = wp.constant(CAR_ROW.start("wheel_is_sliding"))
MATERIAL = wp.constant(CAR_ROW.start("wheel_material"))
GEARBOX = wp.constant(CAR_ROW.start("gearbox_state"))
FREEWHEEL = wp.constant(CAR_ROW.start("is_freewheeling"))
POINTS = wp.constant(NUM_ZONES_AHEAD)
STRIDE = wp.constant(ZONES_PER_POINT)
ANNOUNCED = wp.constant(FINISH_ANNOUNCED_M)


@wp.func
def vec3_at(row: wp.array2d(dtype=wp.float32), b: int, at: int) -> wp.vec3:
    """Three floats of a row."""
    return wp.vec3(row[b, at], row[b, at + 1], row[b, at + 2])


@wp.func
def put_vec3(out: wp.array2d(dtype=wp.float32), b: int, at: int, v: wp.vec3):
    """Write three floats of a row."""
    out[b, at] = v[0]
    out[b, at + 1] = v[1]
    out[b, at + 2] = v[2]


@wp.func
def material_group(material: int) -> int:
    """Asphalt 0, grass 1, dirt 2, turbo 3, other -1, by the game's material ids."""
    if material == 0 or material == 1 or material == 16 or material == 18 or material == 19:
        return 0
    if material == 2 or material == 20:
        return 1
    if material == 5 or material == 6 or material == 8 or material == 17:
        return 2
    if material == 7 or material == 26:
        return 3
    return -1


@wp.kernel(enable_backward=False)
def sense(
    cars: wp.array2d(dtype=wp.float32),
    tracked: wp.array2d(dtype=wp.float32),
    track_index: wp.array(dtype=wp.int32),
    mask: wp.array(dtype=wp.bool),
    zones: ZoneTable,
    num_previous: int,
    out: wp.array2d(dtype=wp.float32),
):
    """Write the observation of every masked car, in the order of ``observation_layout``."""
    b = wp.tid()
    if not mask[b]:
        return
    out[b, 0] = 0.0
    at = int(1)
    for i in range(num_previous):
        action = int(tracked[b, PREVIOUS_ACTIONS + i])
        way = action % 3
        out[b, at] = wp.where(action < 3 or action >= 9, 1.0, 0.0)
        out[b, at + 1] = wp.where(action >= 6, 1.0, 0.0)
        out[b, at + 2] = wp.where(way == 1, 1.0, 0.0)
        out[b, at + 3] = wp.where(way == 2, 1.0, 0.0)
        at = at + 4
    for i in range(12):  # sliding, contact and damper of each wheel
        out[b, at + i] = cars[b, SLIDING + i]
    at = at + 12
    for i in range(3):  # gearbox state, gear, rpm
        out[b, at + i] = cars[b, GEARBOX + i]
    out[b, at + 3] = tracked[b, GEARBOX_COUNTER]
    at = at + 4
    for wheel in range(4):
        group = material_group(int(cars[b, MATERIAL + wheel]))
        for i in range(4):
            out[b, at + i] = wp.where(group == i, 1.0, 0.0)
        at = at + 4
    left = wp.vec3(cars[b, ROTATION], cars[b, ROTATION + 3], cars[b, ROTATION + 6])
    up = wp.vec3(cars[b, ROTATION + 1], cars[b, ROTATION + 4], cars[b, ROTATION + 7])
    ahead = wp.vec3(cars[b, ROTATION + 2], cars[b, ROTATION + 5], cars[b, ROTATION + 8])
    spin = vec3_at(cars, b, SPIN)
    velocity = vec3_at(cars, b, VELOCITY)
    put_vec3(out, b, at, wp.vec3(wp.dot(spin, left), wp.dot(spin, up), wp.dot(spin, ahead)))
    put_vec3(out, b, at + 3, wp.vec3(wp.dot(velocity, left), wp.dot(velocity, up), wp.dot(velocity, ahead)))
    put_vec3(out, b, at + 6, wp.vec3(left[1], up[1], ahead[1]))
    at = at + 9
    position = vec3_at(cars, b, POSITION)
    track = track_index[b]
    zone = zones.offset[track] + int(tracked[b, ZONE])
    for i in range(POINTS):
        to = zones.centre[zone + i * STRIDE] - position
        put_vec3(out, b, at, wp.vec3(wp.dot(to, left), wp.dot(to, up), wp.dot(to, ahead)))
        at = at + 3
    out[b, at] = wp.min(ANNOUNCED, zones.finish_distance[track] - tracked[b, PROGRESS])
    out[b, at + 1] = cars[b, FREEWHEEL]
