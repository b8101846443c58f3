"""One car's 10 ms: suspension, tyres, engine and gears, walls, motion.

Only + - * / and square roots are used, so that every processor gives the same bits. Cars do not see each other.
World frame: y up. Car frame: x left, y up, z forward.
"""

import warp as wp

import tm_torchrl.sim.tuning as t
from tm_torchrl.sim.engine import engine_acceleration, gear_up_speed
from tm_torchrl.sim.ground import Ground, Plot, Sample, sample
from tm_torchrl.sim.wheel import Drive, Motion, roll_wheel, side_friction

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

TURBO = wp.constant(7)
TURBO2 = wp.constant(26)
FREEWHEELING = wp.constant(29)


@wp.struct
class Car:
    """The part of a car's state that the physics of the next tick depends on."""

    position: wp.vec3
    velocity: wp.vec3
    spin: wp.vec3  # angular velocity, world frame
    attitude: wp.quat  # car to world
    steer: wp.float32  # share of full lock, left positive
    gear: wp.float32
    shift_ticks: wp.float32
    turbo: wp.float32
    turbo_ticks: wp.float32  # left, of the boost's whole time
    turbo_total: wp.float32
    is_freewheeling: wp.float32
    has_lateral_contact: wp.float32
    sliding: wp.vec4
    contact: wp.vec4
    compression: wp.vec4
    material: wp.vec4
    grip: wp.float32  # domain randomisation: 1 by default
    engine: wp.float32
    inverse_mass: wp.float32


@wp.struct
class Controls:
    """Pedals and steering of one tick."""

    gas: wp.float32
    brake: wp.float32
    steer: wp.float32  # left positive


@wp.func
def rotation(q: wp.quat) -> wp.mat33:
    """Rotation matrix of a unit quaternion (x, y, z, w)."""
    x = q[0]
    y = q[1]
    z = q[2]
    w = q[3]
    return wp.mat33(
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    )  # fmt: skip


@wp.func
def change_gear(car: Car, speed: float) -> Car:
    """Shift gears by speed; during ``shift_ticks`` the engine hardly drives."""
    car.shift_ticks = wp.max(car.shift_ticks - 1.0, 0.0)
    if car.shift_ticks == 0.0:
        if car.gear < 1.0:
            car.gear = 1.0
        if car.gear < 5.0 and speed > gear_up_speed(car.gear):
            car.gear = car.gear + 1.0
            car.shift_ticks = t.SHIFT_TICKS
        elif car.gear > 1.0 and speed < gear_up_speed(car.gear - 1.0) - t.GEAR_HYSTERESIS:
            car.gear = car.gear - 1.0
    return car


@wp.func
def is_pad(material: float, contact: float) -> bool:
    """Whether a wheel stands on a turbo pad."""
    return contact > 0.5 and (int(material) == TURBO or int(material) == TURBO2)


@wp.func
def take_turbo(car: Car, was_on_pad: bool) -> Car:
    """Start a boost when the first wheel rolls onto a pad, and let a running boost fade."""
    car.turbo_ticks = wp.max(car.turbo_ticks - 1.0, 0.0)
    for wheel in range(4):
        if car.contact[wheel] > 0.5:
            material = int(car.material[wheel])
            if material == FREEWHEELING:
                car.is_freewheeling = 1.0
            if is_pad(car.material[wheel], 1.0):
                car.is_freewheeling = 0.0
                if not was_on_pad:
                    car.turbo = wp.where(material == TURBO, t.TURBO_STRENGTH, t.TURBO2_STRENGTH)
                    car.turbo_total = wp.where(material == TURBO, t.TURBO_TICKS, t.TURBO2_TICKS)
                    car.turbo_ticks = car.turbo_total
    return car


@wp.func
def turbo_factor(car: Car) -> float:
    """The current boost, as a multiple of the engine's force at rest."""
    return car.turbo * car.turbo_ticks / wp.max(car.turbo_total, 1.0)


@wp.func
def land_body(car: Car, below: Sample) -> Car:
    """Push the body out of the ground and slow it by friction."""
    depth = below.height + t.BELLY_M - car.position[1]
    if depth <= 0.0:
        return car
    normal = wp.vec3(-below.height_x, 1.0, -below.height_z)
    normal = normal / wp.sqrt(wp.dot(normal, normal))
    closing = wp.min(wp.dot(car.velocity, normal), 0.0)
    car.position = car.position + wp.vec3(0.0, depth, 0.0)
    sliding = car.velocity - closing * normal
    pace = wp.sqrt(wp.dot(sliding, sliding)) + 1.0e-6
    car.velocity = sliding * wp.max(1.0 + t.BELLY_FRICTION * (closing - t.BELLY_DRAG) / pace, 0.0)
    return car


@wp.func
def touch_wall(car: Car, ground: Ground, plot: Plot, arm: wp.vec3) -> Car:
    """Collide one disc of the body with the wall: the impulse has restitution and friction and turns the car too."""
    x = car.position[0] + arm[0]
    z = car.position[2] + arm[2]
    near = sample(ground, plot, x, z)
    depth = t.WALL_DISC_M - near.edge - plot.wall_offset
    if depth <= 0.0:
        return car
    normal = wp.vec3(near.edge_x, 0.0, near.edge_z)
    normal = normal / wp.sqrt(wp.dot(normal, normal) + 1.0e-6)
    velocity = car.velocity + wp.cross(car.spin, arm)
    closing = wp.dot(velocity, normal)
    car.position = car.position + depth * normal
    car.has_lateral_contact = 1.0
    if closing < 0.0:
        lever = arm[2] * normal[0] - arm[0] * normal[2]
        bounce = wp.where(closing < -1.0, t.WALL_RESTITUTION, 0.0)
        impulse = -(1.0 + bounce) * closing / (1.0 + lever * lever / t.INERTIA_YAW)
        tangent = wp.vec3(-normal[2], 0.0, normal[0])
        sliding = wp.dot(velocity, tangent)
        scrape = -wp.clamp(sliding, -t.WALL_FRICTION * impulse, t.WALL_FRICTION * impulse)
        change = impulse * normal + scrape * tangent
        car.velocity = car.velocity + change
        turn = arm[2] * change[0] - arm[0] * change[2]
        car.spin = car.spin + wp.vec3(0.0, turn / t.INERTIA_YAW, 0.0)
    return car


@wp.func
def turn_body(attitude: wp.quat, spin: wp.vec3) -> wp.quat:
    """Integrate the attitude over one tick."""
    h = 0.5 * t.TICK_S
    x = attitude[0]
    y = attitude[1]
    z = attitude[2]
    w = attitude[3]
    nx = x + h * (spin[0] * w + spin[1] * z - spin[2] * y)
    ny = y + h * (spin[1] * w + spin[2] * x - spin[0] * z)
    nz = z + h * (spin[2] * w + spin[0] * y - spin[1] * x)
    nw = w - h * (spin[0] * x + spin[1] * y + spin[2] * z)
    scale = 1.0 / wp.sqrt(nx * nx + ny * ny + nz * nz + nw * nw + 1.0e-12)
    return wp.quat(nx * scale, ny * scale, nz * scale, nw * scale)


@wp.func
def limit_length(v: wp.vec3, longest: float) -> wp.vec3:
    """Shorten a vector to at most a given length."""
    square = wp.dot(v, v)
    if square > longest * longest:
        return v * (longest / wp.sqrt(square))
    return v


@wp.func
def front_direction(steer: float, speed: float, friction: float) -> wp.vec2:
    """Forward and left share of the steered wheels' direction; the angle at full lock falls with speed."""
    reach = (t.WHEEL_FRONT_M - t.WHEEL_REAR_M) * t.STEER_SHARE * friction / (speed * speed + 1.0)
    angle = steer * wp.min(t.STEER_LOCK, reach)
    half = 0.5 * angle  # the rational form of sine and cosine; exact on the unit circle
    norm = 1.0 / (1.0 + half * half)
    return wp.vec2((1.0 - half * half) * norm, 2.0 * half * norm)


@wp.func
def drive_of(car: Car, controls: Controls, speed: float, forward_speed: float, friction: float) -> Drive:
    """What engine and brakes ask of each wheel."""
    shift_loss = float(1.0)
    if car.shift_ticks > 0.0:
        shift_loss = t.SHIFT_DRIVE
    drive = Drive()
    engine = controls.gas * engine_acceleration(wp.max(forward_speed, 0.0)) * shift_loss * car.engine
    drive.engine = 0.25 * engine * (1.0 - car.is_freewheeling)
    drive.grip = friction / t.GRAVITY_GROUND * car.grip
    drive.rear_grip = t.REAR_GRIP
    if controls.brake > 0.5:
        if forward_speed < 1.0:
            drive.reverse = 0.25 * t.REVERSE * wp.max(1.0 + forward_speed / t.REVERSE_MAX_SPEED, 0.0)
        else:
            drive.brake = 0.25 * t.BRAKE
        if speed > t.BRAKE_DRIFT_SPEED and wp.abs(car.steer) > 0.1:
            drive.rear_grip = t.BRAKE_REAR_GRIP
    return drive


@wp.func
def is_on_pad(car: Car) -> bool:
    """Whether a wheel stands on a turbo or on another pad."""
    found = bool(False)
    for wheel in range(4):
        found = found or is_pad(car.material[wheel], car.contact[wheel])
    return found


@wp.func
def motion_of(car: Car, body: wp.mat33) -> Motion:
    """The car's motion as its wheels take it."""
    motion = Motion()
    motion.position = car.position
    motion.velocity = car.velocity
    motion.spin = car.spin
    motion.body = body
    return motion


@wp.func
def tick(ground: Ground, plot: Plot, car: Car, controls: Controls) -> Car:
    """Advance one car by 10 ms."""
    body = rotation(car.attitude)
    ahead = wp.vec3(body[0, 2], body[1, 2], body[2, 2])
    left = wp.vec3(body[0, 0], body[1, 0], body[2, 0])
    up = wp.vec3(body[0, 1], body[1, 1], body[2, 1])
    speed = wp.sqrt(wp.dot(car.velocity, car.velocity))
    forward_speed = wp.dot(car.velocity, ahead)

    car.steer = car.steer + wp.clamp(controls.steer - car.steer, -t.STEER_PER_TICK, t.STEER_PER_TICK)
    friction = side_friction(speed)
    direction = front_direction(car.steer, speed, friction)
    car = change_gear(car, wp.abs(forward_speed))
    drive = drive_of(car, controls, speed, forward_speed, friction)

    was_on_pad = is_on_pad(car)
    motion = motion_of(car, body)
    straight = wp.vec2(1.0, 0.0)
    fl_mount = wp.vec3(t.WHEEL_SIDE_M, -t.LEG_M, t.WHEEL_FRONT_M)
    fl = roll_wheel(ground, plot, motion, drive, fl_mount, direction, car.sliding[0])
    fr_mount = wp.vec3(-t.WHEEL_SIDE_M, -t.LEG_M, t.WHEEL_FRONT_M)
    fr = roll_wheel(ground, plot, motion, drive, fr_mount, direction, car.sliding[1])
    rr_mount = wp.vec3(-t.WHEEL_SIDE_M, -t.LEG_M, t.WHEEL_REAR_M)
    rr = roll_wheel(ground, plot, motion, drive, rr_mount, straight, car.sliding[2])
    rl_mount = wp.vec3(t.WHEEL_SIDE_M, -t.LEG_M, t.WHEEL_REAR_M)
    rl = roll_wheel(ground, plot, motion, drive, rl_mount, straight, car.sliding[3])
    car.contact = wp.vec4(fl.contact, fr.contact, rr.contact, rl.contact)
    car.sliding = wp.vec4(fl.sliding, fr.sliding, rr.sliding, rl.sliding)
    car.compression = wp.vec4(fl.compression, fr.compression, rr.compression, rl.compression)
    car.material = wp.vec4(fl.material, fr.material, rr.material, rl.material)
    car = take_turbo(car, was_on_pad)
    is_grounded = fl.contact + fr.contact + rr.contact + rl.contact

    gravity = t.GRAVITY_GROUND
    kept = t.SPIN_KEPT_GROUND
    torque = fl.torque + fr.torque + rr.torque + rl.torque
    if is_grounded < 0.5:
        gravity = t.GRAVITY_AIR
        kept = t.SPIN_KEPT_AIR
        if controls.brake > 0.5:
            kept = t.SPIN_KEPT_AIR_BRAKE
        torque = up * (t.AIR_STEER * t.INERTIA_YAW * car.steer)
    force = (fl.force + fr.force + rr.force + rl.force) * car.inverse_mass - (t.DRAG * speed) * car.velocity
    if is_grounded > 0.5:
        force = force + (t.TURBO_FORCE * turbo_factor(car)) * ahead
    force = force - wp.vec3(0.0, gravity, 0.0)
    car.velocity = limit_length(car.velocity + t.TICK_S * force, t.MAX_SPEED)
    spin_change = (
        left * (wp.dot(torque, left) / t.INERTIA_PITCH)
        + up * (wp.dot(torque, up) / t.INERTIA_YAW)
        + ahead * (wp.dot(torque, ahead) / t.INERTIA_ROLL)
    )
    car.spin = limit_length((car.spin + (t.TICK_S * car.inverse_mass) * spin_change) * kept, t.MAX_SPIN)
    car.position = car.position + t.TICK_S * car.velocity
    car = land_body(car, sample(ground, plot, car.position[0], car.position[2]))
    car = touch_wall(car, ground, plot, ahead * t.WALL_DISC_AT_M)
    car = touch_wall(car, ground, plot, ahead * (-t.WALL_DISC_AT_M))
    car.attitude = turn_body(car.attitude, car.spin)
    return car
