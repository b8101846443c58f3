"""The engine: acceleration by speed, gears and engine speed."""

import warp as wp

import tm_torchrl.sim.tuning as t

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.func
def engine_acceleration(speed: float) -> float:
    """Full gas on asphalt: 16 m/s^2 at rest, 11.5 at 100 km/h, 6.2 at 250, 2.8 at 450, 1 at 800; both ends public."""
    low = wp.max(16.0 - 0.162 * speed, 15.04 - 0.1273 * speed)
    high = wp.max(10.45 - 0.0612 * speed, 5.115 - 0.01852 * speed)
    return wp.max(wp.max(low, high), 0.0)


@wp.func
def gear_up_speed(gear: float) -> float:
    """Speed above which the car shifts up from a gear."""
    if gear < 1.5:
        return t.GEAR_UP_1
    if gear < 2.5:
        return t.GEAR_UP_2
    if gear < 3.5:
        return t.GEAR_UP_3
    if gear < 4.5:
        return t.GEAR_UP_4
    return t.GEAR_TOP


@wp.func
def engine_rpm(gear: float, speed: float, gas: float) -> float:
    """Engine speed as shown: proportional to road speed within a gear."""
    turning = t.RPM_MAX * wp.min(speed / gear_up_speed(gear), 1.0)
    return wp.max(turning, t.RPM_IDLE + 1500.0 * gas)
