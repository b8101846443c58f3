"""The sensor kernel: car row, tracker row and track in, float observation out.

It reads only what the game reports too.
"""

import warp as wp

from tm_torchrl.world.action_kernels import keys_of
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.observation import FINISH_ANNOUNCED_M, NUM_ZONES_AHEAD, ZONES_PER_POINT, observation_layout
from tm_torchrl.world.tracker_kernels import GEARBOX_COUNTER, PREVIOUS_ACTIONS, PROGRESS, ZONE
from tm_torchrl.world.zone_table import ZoneTable

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

POSITION = wp.constant(CAR_ROW.start("position"))
ROTATION = wp.constant(CAR_ROW.start("rotation"))
VELOCITY = wp.constant(CAR_ROW.start("velocity"))
SPIN = wp.constant(CAR_ROW.start("angular_velocity"))
SLIDING = wp.constant(CAR_ROW.start("wheel_is_sliding"))
CONTACT = wp.constant(CAR_ROW.start("wheel_has_contact"))
DAMPER = wp.constant(CAR_ROW.start("wheel_damper"))
MATERIAL = wp.constant(CAR_ROW.start("wheel_material"))
GEARBOX = wp.constant(CAR_ROW.start("gearbox_state"))
GEAR = wp.constant(CAR_ROW.start("gear"))
RPM = wp.constant(CAR_ROW.start("engine_rpm"))
FREEWHEEL = wp.constant(CAR_ROW.start("is_freewheeling"))
POINTS = wp.constant(NUM_ZONES_AHEAD)
STRIDE = wp.constant(ZONES_PER_POINT)
ANNOUNCED = wp.constant(FINISH_ANNOUNCED_M)

# Where the observation's fields begin. Those behind the previous actions begin 4 floats later for each further action.
_layout = observation_layout(1)
OUT_CLOCK = wp.constant(_layout.start("clock"))
OUT_ACTIONS = wp.constant(_layout.start("previous_actions"))
OUT_SLIDING = wp.constant(_layout.start("wheel_is_sliding"))
OUT_CONTACT = wp.constant(_layout.start("wheel_has_contact"))
OUT_DAMPER = wp.constant(_layout.start("wheel_damper"))
OUT_GEARBOX = wp.constant(_layout.start("gearbox_state"))
OUT_GEAR = wp.constant(_layout.start("gear"))
OUT_RPM = wp.constant(_layout.start("engine_rpm"))
OUT_GEARBOX_COUNTER = wp.constant(_layout.start("gearbox_counter"))
OUT_MATERIAL = wp.constant(_layout.start("wheel_material"))
OUT_SPIN = wp.constant(_layout.start("angular_velocity"))
OUT_VELOCITY = wp.constant(_layout.start("velocity"))
OUT_UP = wp.constant(_layout.start("up"))
OUT_ZONES = wp.constant(_layout.start("zones_ahead"))
OUT_MARGIN = wp.constant(_layout.start("margin_to_finish"))
OUT_FREEWHEEL = wp.constant(_layout.start("is_freewheeling"))


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
    """Write the observation of every masked car, as ``observation_layout`` describes it."""
    b = wp.tid()
    if not mask[b]:
        return
    out[b, OUT_CLOCK] = 0.0
    at = int(OUT_ACTIONS)
    for i in range(num_previous):
        keys = keys_of(int(tracked[b, PREVIOUS_ACTIONS + i]))
        for key in range(4):
            out[b, at + key] = keys[key]
        at = at + 4
    shift = at - OUT_ACTIONS - 4  # equals 4 * (num_previous - 1), which makes the kernel 30 % slower on a CPU
    for wheel in range(4):
        out[b, shift + OUT_SLIDING + wheel] = cars[b, SLIDING + wheel]
        out[b, shift + OUT_CONTACT + wheel] = cars[b, CONTACT + wheel]
        out[b, shift + OUT_DAMPER + wheel] = cars[b, DAMPER + wheel]
        group = material_group(int(cars[b, MATERIAL + wheel]))
        for i in range(4):
            out[b, shift + OUT_MATERIAL + 4 * wheel + i] = wp.where(group == i, 1.0, 0.0)
    out[b, shift + OUT_GEARBOX] = cars[b, GEARBOX]
    out[b, shift + OUT_GEAR] = cars[b, GEAR]
    out[b, shift + OUT_RPM] = cars[b, RPM]
    out[b, shift + OUT_GEARBOX_COUNTER] = tracked[b, GEARBOX_COUNTER]
    left = wp.vec3(cars[b, ROTATION], cars[b, ROTATION + 3], cars[b, ROTATION + 6])
    up = wp.vec3(cars[b, ROTATION + 1], cars[b, ROTATION + 4], cars[b, ROTATION + 7])
    ahead = wp.vec3(cars[b, ROTATION + 2], cars[b, ROTATION + 5], cars[b, ROTATION + 8])
    spin = vec3_at(cars, b, SPIN)
    velocity = vec3_at(cars, b, VELOCITY)
    put_vec3(out, b, shift + OUT_SPIN, wp.vec3(wp.dot(spin, left), wp.dot(spin, up), wp.dot(spin, ahead)))
    moving = wp.vec3(wp.dot(velocity, left), wp.dot(velocity, up), wp.dot(velocity, ahead))
    put_vec3(out, b, shift + OUT_VELOCITY, moving)
    put_vec3(out, b, shift + OUT_UP, wp.vec3(left[1], up[1], ahead[1]))
    position = vec3_at(cars, b, POSITION)
    track = track_index[b]
    zone = zones.offset[track] + int(tracked[b, ZONE])
    for i in range(POINTS):
        to = zones.centre[zone + i * STRIDE] - position
        point = wp.vec3(wp.dot(to, left), wp.dot(to, up), wp.dot(to, ahead))
        put_vec3(out, b, shift + OUT_ZONES + 3 * i, point)
    out[b, shift + OUT_MARGIN] = wp.min(ANNOUNCED, zones.finish_distance[track] - tracked[b, PROGRESS])
    out[b, shift + OUT_FREEWHEEL] = cars[b, FREEWHEEL]
