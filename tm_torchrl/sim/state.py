"""A simulated car's full state: the car row, then what only the simulator needs. A copy of it is a saved game."""

import warp as wp

import tm_torchrl.sim.tuning as t
from tm_torchrl.sim.car import Car, rotation, turbo_factor
from tm_torchrl.sim.engine import engine_rpm
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.layout import Field, Layout

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

STATE = Layout(
    *CAR_ROW.fields,
    Field("attitude", 4, "1", "quaternion x y z w, car to world"),
    Field("steer", 1, "1", "share of full lock, left positive"),
    Field("shift_ticks", 1, "ticks", "until the gear has changed"),
    Field("turbo", 3, "1", "strength, ticks left, ticks in all"),
    Field("wheel_compression", 4, "m", "strut travel"),
    Field("scales", 3, "1", "domain randomisation: grip, engine, 1 / mass"),
    Field("track", 1, "index", "which of the simulator's tracks"),
    Field("episode", 1, "count", "how often this car has been reset; keys its randomness"),
)

_row = CAR_ROW.start
RACE_TIME = wp.constant(_row("race_time_ms"))
POSITION = wp.constant(_row("position"))
ROTATION = wp.constant(_row("rotation"))
VELOCITY = wp.constant(_row("velocity"))
SPIN = wp.constant(_row("angular_velocity"))
SLIDING = wp.constant(_row("wheel_is_sliding"))
CONTACT = wp.constant(_row("wheel_has_contact"))
WHEEL_DAMPER = wp.constant(_row("wheel_damper"))
MATERIAL = wp.constant(_row("wheel_material"))
GEARBOX = wp.constant(_row("gearbox_state"))
GEAR = wp.constant(_row("gear"))
RPM = wp.constant(_row("engine_rpm"))
FREEWHEEL = wp.constant(_row("is_freewheeling"))
LATERAL = wp.constant(_row("has_lateral_contact"))
TURBO_FACTOR = wp.constant(_row("turbo_factor"))
INPUT_GAS = wp.constant(_row("input_gas"))
INPUT_BRAKE = wp.constant(_row("input_brake"))
INPUT_STEER = wp.constant(_row("input_steer"))
CHECKPOINTS = wp.constant(_row("checkpoint_count"))
CHECKPOINT_TIME = wp.constant(_row("last_checkpoint_time_ms"))
FINISHED = wp.constant(_row("is_finished"))
ATTITUDE = wp.constant(STATE.start("attitude"))
STEER = wp.constant(STATE.start("steer"))
SHIFT_TICKS_LEFT = wp.constant(STATE.start("shift_ticks"))
TURBO_STATE = wp.constant(STATE.start("turbo"))
COMPRESSION = wp.constant(STATE.start("wheel_compression"))
SCALES = wp.constant(STATE.start("scales"))
TRACK = wp.constant(STATE.start("track"))
EPISODE = wp.constant(STATE.start("episode"))


@wp.func
def load_vec3(state: wp.array2d(dtype=wp.float32), b: int, at: int) -> wp.vec3:
    """Three floats of a row."""
    return wp.vec3(state[b, at], state[b, at + 1], state[b, at + 2])


@wp.func
def load_vec4(state: wp.array2d(dtype=wp.float32), b: int, at: int) -> wp.vec4:
    """Four floats of a row."""
    return wp.vec4(state[b, at], state[b, at + 1], state[b, at + 2], state[b, at + 3])


@wp.func
def load_car(state: wp.array2d(dtype=wp.float32), b: int) -> Car:
    """Read a car from its row."""
    car = Car()
    car.position = load_vec3(state, b, POSITION)
    car.velocity = load_vec3(state, b, VELOCITY)
    car.spin = load_vec3(state, b, SPIN)
    q = load_vec4(state, b, ATTITUDE)
    car.attitude = wp.quat(q[0], q[1], q[2], q[3])
    car.steer = state[b, STEER]
    car.gear = state[b, GEAR]
    car.shift_ticks = state[b, SHIFT_TICKS_LEFT]
    car.turbo = state[b, TURBO_STATE]
    car.turbo_ticks = state[b, TURBO_STATE + 1]
    car.turbo_total = state[b, TURBO_STATE + 2]
    car.is_freewheeling = state[b, FREEWHEEL]
    car.has_lateral_contact = state[b, LATERAL]
    car.sliding = load_vec4(state, b, SLIDING)
    car.contact = load_vec4(state, b, CONTACT)
    car.compression = load_vec4(state, b, COMPRESSION)
    car.material = load_vec4(state, b, MATERIAL)
    car.grip = state[b, SCALES]
    car.engine = state[b, SCALES + 1]
    car.inverse_mass = state[b, SCALES + 2]
    return car


@wp.func
def store_vec3(state: wp.array2d(dtype=wp.float32), b: int, at: int, v: wp.vec3):
    """Write three floats of a row."""
    state[b, at] = v[0]
    state[b, at + 1] = v[1]
    state[b, at + 2] = v[2]


@wp.func
def store_vec4(state: wp.array2d(dtype=wp.float32), b: int, at: int, v: wp.vec4):
    """Write four floats of a row."""
    state[b, at] = v[0]
    state[b, at + 1] = v[1]
    state[b, at + 2] = v[2]
    state[b, at + 3] = v[3]


@wp.func
def damper_reading(compression: float, contact: float) -> float:
    """Strut travel on the game's scale: about 0.01 at rest, 0.005 hanging, at most 0.15."""
    reading = t.DAMPER_AT_REST_M + t.DAMPER_SCALE * (compression - t.REST_COMPRESSION_M)
    return wp.clamp(reading * contact, 0.005, 0.15)


@wp.func
def store_car(state: wp.array2d(dtype=wp.float32), b: int, car: Car, gas: float):
    """Write a car to its row, with the readings that follow from it."""
    store_vec3(state, b, POSITION, car.position)
    store_vec3(state, b, VELOCITY, car.velocity)
    store_vec3(state, b, SPIN, car.spin)
    q = car.attitude
    store_vec4(state, b, ATTITUDE, wp.vec4(q[0], q[1], q[2], q[3]))
    body = rotation(q)
    for i in range(3):
        for j in range(3):
            state[b, ROTATION + 3 * i + j] = body[i, j]
    state[b, STEER] = car.steer
    state[b, GEAR] = car.gear
    state[b, SHIFT_TICKS_LEFT] = car.shift_ticks
    state[b, TURBO_STATE] = car.turbo
    state[b, TURBO_STATE + 1] = car.turbo_ticks
    state[b, TURBO_STATE + 2] = car.turbo_total
    state[b, FREEWHEEL] = car.is_freewheeling
    state[b, LATERAL] = car.has_lateral_contact
    store_vec4(state, b, SLIDING, car.sliding)
    store_vec4(state, b, CONTACT, car.contact)
    store_vec4(state, b, COMPRESSION, car.compression)
    store_vec4(state, b, MATERIAL, car.material)
    for i in range(4):
        state[b, WHEEL_DAMPER + i] = damper_reading(car.compression[i], car.contact[i])
    ahead = wp.vec3(body[0, 2], body[1, 2], body[2, 2])
    forward_speed = wp.dot(car.velocity, ahead)
    state[b, RPM] = engine_rpm(car.gear, wp.abs(forward_speed), gas)
    state[b, TURBO_FACTOR] = turbo_factor(car)
    shifting = float(0.0)
    if car.shift_ticks > 0.0:
        shifting = 1.0
    state[b, GEARBOX] = shifting
