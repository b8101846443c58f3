"""The car row: the state of one car as the simulator and the game report it.

World frame as in the game: metres, y up, x and z horizontal, right-handed. Car frame: x to the left,
y up, z forward; ``rotation`` maps car to world, row-major (its columns are left, up, forward).
Wheels: front left, front right, rear right, rear left.
Each field exists in the game's saved state; whole numbers are exact in float32.
"""

from __future__ import annotations

from tm_torchrl.world.layout import Field, Layout

NUM_WHEELS = 4

CAR_ROW = Layout(
    Field("race_time_ms", 1, "ms", "time since the start signal"),
    Field("position", 3, "m", "centre of the car, world frame"),
    Field("rotation", 9, "1", "car to world, row-major"),
    Field("velocity", 3, "m/s", "world frame"),
    Field("angular_velocity", 3, "rad/s", "world frame"),
    Field("wheel_is_sliding", NUM_WHEELS, "0/1", "tyre beyond its grip"),
    Field("wheel_has_contact", NUM_WHEELS, "0/1", "wheel touches the ground"),
    Field("wheel_damper", NUM_WHEELS, "m", "damper travel, 0.005 to 0.15"),
    Field("wheel_material", NUM_WHEELS, "id", "the game's material id under the wheel"),
    Field("gearbox_state", 1, "id", "1 while a gear changes, 2 before the first start, else 0"),
    Field("gear", 1, "count", "0 reverse or neutral, 1 to 5"),
    Field("engine_rpm", 1, "1/min", "engine speed, 0 to about 10000"),
    Field("is_freewheeling", 1, "0/1", "engine cut off by the road"),
    Field("has_lateral_contact", 1, "0/1", "body touches a wall"),
    Field("turbo_factor", 1, "1", "boost still acting, 0 without"),
    Field("input_gas", 1, "0/1", "pedal held"),
    Field("input_brake", 1, "0/1", "pedal held"),
    Field("input_steer", 1, "-1..1", "left is negative, as in the game"),
    Field("checkpoint_count", 1, "count", "checkpoints passed, laps and finish included"),
    Field("last_checkpoint_time_ms", 1, "ms", "race time at the last of them"),
    Field("is_finished", 1, "0/1", "the finish counts as the last checkpoint"),
)
