"""One wheel: suspension strut, tyre and the ground below."""

import warp as wp

import tm_torchrl.sim.tuning as t
from tm_torchrl.sim.ground import Ground, Plot, sample

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

GRASS = wp.constant(2)
DIRT = wp.constant(6)


@wp.struct
class Motion:
    """Motion of the body in the world frame; ``body`` rotates from the car frame to the world frame."""

    position: wp.vec3
    velocity: wp.vec3
    spin: wp.vec3
    body: wp.mat33


@wp.struct
class Wheel:
    """What one wheel does to the body in one tick."""

    force: wp.vec3
    torque: wp.vec3
    contact: wp.float32
    sliding: wp.float32
    compression: wp.float32
    material: wp.float32


@wp.struct
class Drive:
    """Forces that engine and brakes ask of each wheel along its direction, and the grip it has."""

    engine: wp.float32
    brake: wp.float32
    reverse: wp.float32
    grip: wp.float32  # friction per unit of load on asphalt, for this car at this speed
    rear_grip: wp.float32


@wp.func
def side_friction(speed: float) -> float:
    """Largest sideways acceleration on asphalt; it falls with speed."""
    share = wp.clamp((speed - 27.778) / 111.111, 0.0, 1.0)
    return t.SIDE_FRICTION_SLOW + (t.SIDE_FRICTION_FAST - t.SIDE_FRICTION_SLOW) * share


@wp.func
def material_grip(material: int) -> float:
    """Share of asphalt's grip."""
    if material == DIRT:
        return t.GRIP_DIRT
    if material == GRASS:
        return t.GRIP_GRASS
    return 1.0


@wp.func
def resistance(material: int, pace: float) -> float:
    """Drag and rolling resistance of the ground, as a share of the speed per second."""
    drag = float(0.0)
    rolling = t.ROLLING
    if material == DIRT:
        drag = t.DRAG_DIRT
    elif material == GRASS:
        drag = t.DRAG_GRASS
        rolling = t.ROLLING + t.ROLLING_GRASS
    return drag + rolling / wp.max(pace, 1.0)


@wp.func
def roll_wheel(
    ground: Ground,
    plot: Plot,
    motion: Motion,
    drive: Drive,
    mount: wp.vec3,
    direction: wp.vec2,
    was_sliding: float,
) -> Wheel:
    """Force and torque of one wheel; ``direction`` is the wheel's (forward, left) share in the car frame."""
    body = motion.body
    arm = body * mount
    foot = motion.position + arm
    below = sample(ground, plot, foot[0], foot[2])
    normal = wp.vec3(-below.height_x, 1.0, -below.height_z)
    normal = normal / wp.sqrt(wp.dot(normal, normal))
    compression = (below.height - foot[1]) * normal[1]
    out = Wheel()
    if compression <= 0.0:
        return out
    speed = motion.velocity + wp.cross(motion.spin, arm)
    closing = wp.dot(speed, normal)
    spring = t.SPRING * compression + t.SPRING_STOP * wp.max(compression - t.STOP_M, 0.0)
    load = wp.clamp(spring - t.DAMPER * closing, 0.0, t.MAX_LOAD)

    heading = body * wp.vec3(direction[1], 0.0, direction[0])
    heading = heading - wp.dot(heading, normal) * normal
    heading = heading / wp.sqrt(wp.dot(heading, heading) + 1.0e-6)
    side = wp.cross(normal, heading)
    along = wp.dot(speed, heading)
    across = wp.dot(speed, side)
    pace = wp.abs(along)

    material = int(ground.material[below.cell])
    loose = material_grip(material)
    limit = drive.grip * loose * load
    if mount[2] < 0.0:
        limit = limit * drive.rear_grip
    slip = t.SLIP_STIFFNESS * across / wp.max(pace, t.SLIP_MIN_SPEED)
    if was_sliding > 0.5:
        limit = limit * t.SLIDE_GRIP
    sideways = -limit * slip / wp.sqrt(1.0 + slip * slip)
    resisting = 0.25 * along * resistance(material, pace) + drive.brake * along / wp.max(pace, 0.5)
    forward = drive.engine * (0.4 + 0.6 * loose) - drive.reverse - resisting
    demand = wp.sqrt(forward * forward + sideways * sideways) + 1.0e-6
    share = wp.min(limit / demand, 1.0)
    push = (forward * share) * heading + (sideways * share) * side

    out.force = load * normal + push
    high_arm = arm + (t.LEG_M * t.FORCE_ARM) * wp.vec3(body[0, 1], body[1, 1], body[2, 1])
    out.torque = wp.cross(arm, load * normal) + wp.cross(high_arm, push)
    out.contact = 1.0
    out.compression = compression
    out.material = float(material)
    threshold = t.SLIDE_BEGINS
    if was_sliding > 0.5:
        threshold = t.SLIDE_ENDS
    if wp.abs(slip) > threshold and wp.abs(across) > 1.0:
        out.sliding = 1.0
    return out
