"""Kernels of the tracker: they read the car row and update the tracker row. They read only what the game reports."""

import warp as wp

from tm_torchrl.world.actions import FORWARD
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.end_cause import EndCause
from tm_torchrl.world.layout import Field, Layout
from tm_torchrl.world.zone_table import ZoneTable

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

FIXED_FIELDS = (
    Field("zone", 1, "index", "zone where the car is"),
    Field("progress_zone", 1, "index", "zone from which progress is counted"),
    Field("progress_m", 1, "m", "metres along the reference line since the start"),
    Field("race_time_ms", 1, "ms", "at the last update; the finish time once finished"),
    Field("stalled_ms", 1, "ms", "since progress_zone last moved"),
    Field("overturned_ms", 1, "ms", "on side or roof"),
    Field("airborne_ms", 1, "ms", "no wheel on the ground"),
    Field("gearbox_counter", 1, "actions", "how long gearbox_state has not been 0"),
    Field("end_cause", 1, "id", "EndCause"),
)
_fixed = Layout(*FIXED_FIELDS)
ZONE = wp.constant(_fixed.start("zone"))
PROGRESS_ZONE = wp.constant(_fixed.start("progress_zone"))
PROGRESS = wp.constant(_fixed.start("progress_m"))
TIME = wp.constant(_fixed.start("race_time_ms"))
STALLED = wp.constant(_fixed.start("stalled_ms"))
OVERTURNED = wp.constant(_fixed.start("overturned_ms"))
AIRBORNE = wp.constant(_fixed.start("airborne_ms"))
GEARBOX_COUNTER = wp.constant(_fixed.start("gearbox_counter"))
END_CAUSE = wp.constant(_fixed.start("end_cause"))
PREVIOUS_ACTIONS = wp.constant(_fixed.size)

CAR_TIME = wp.constant(CAR_ROW.start("race_time_ms"))
CAR_POSITION = wp.constant(CAR_ROW.start("position"))
CAR_ROTATION = wp.constant(CAR_ROW.start("rotation"))
CAR_CONTACT = wp.constant(CAR_ROW.start("wheel_has_contact"))
CAR_GEARBOX = wp.constant(CAR_ROW.start("gearbox_state"))
CAR_CHECKPOINTS = wp.constant(CAR_ROW.start("checkpoint_count"))
CAR_CHECKPOINT_TIME = wp.constant(CAR_ROW.start("last_checkpoint_time_ms"))
CAR_FINISHED = wp.constant(CAR_ROW.start("is_finished"))
CAR_SIZE = wp.constant(CAR_ROW.size)

FINISHED = wp.constant(float(EndCause.FINISHED))
TIME_LIMIT = wp.constant(float(EndCause.TIME_LIMIT))
NO_PROGRESS = wp.constant(float(EndCause.NO_PROGRESS))
IS_OVERTURNED = wp.constant(float(EndCause.OVERTURNED))
IS_AIRBORNE = wp.constant(float(EndCause.AIRBORNE))
OUT_OF_WORLD = wp.constant(float(EndCause.OUT_OF_WORLD))
INVALID = wp.constant(float(EndCause.INVALID))

LEAST_SPEED = wp.constant(0.0025)  # zones per ms, 1.25 m/s: a car that gets on more slowly makes no progress
MAX_REACH = wp.constant(0.25**2 + 45.0**2)  # squared: within a road of 90 m, as in rulka
UPRIGHT = wp.constant(0.3)  # vertical share of the car's up axis below which it lies on its side or roof
WORLD_EDGE_M = wp.constant(200.0)  # from the current zone


@wp.struct
class TrackerLimits:
    """``Limits`` in milliseconds, for the kernel."""

    race_ms: float
    no_progress_ms: float
    overturned_ms: float
    airborne_ms: float


@wp.func
def square_distance(a: wp.vec3, b: wp.vec3) -> float:
    """Squared distance of two points."""
    d = a - b
    return wp.dot(d, d)


@wp.func
def follow_zone(zones: ZoneTable, track: int, start: int, checkpoints: int, position: wp.vec3) -> int:
    """Walk from the last zone to the nearest one nearby, but not past a checkpoint that has not been passed."""
    base = zones.offset[track]
    last = zones.last[track]
    if checkpoints < zones.num_checkpoints[track]:
        last = wp.min(last, zones.checkpoint_zone[zones.checkpoint_offset[track] + checkpoints])
    zone = start
    here = square_distance(zones.centre[base + zone], position)
    step = int(1)
    while step != 0:
        step = int(0)
        if zone < last:
            ahead = square_distance(zones.centre[base + zone + 1], position)
            if ahead <= here and ahead <= MAX_REACH:
                here = ahead
                step = int(1)
        zone = zone + step
    step = int(1)
    while step != 0:
        step = int(0)
        if zone >= 2:
            behind = square_distance(zones.centre[base + zone - 1], position)
            if behind < here and behind <= MAX_REACH:
                here = behind
                step = int(1)
        zone = zone - step
    return zone


@wp.func
def progress_at(zones: ZoneTable, track: int, zone: int, position: wp.vec3) -> float:
    """Metres along the reference line since the start."""
    at = zones.offset[track] + zone
    inside = wp.dot(position - zones.entry[at], zones.tangent[at])
    return zones.distance[at] + wp.clamp(inside, 0.0, zones.length[at])


@wp.func
def car_position(cars: wp.array2d(dtype=wp.float32), b: int) -> wp.vec3:
    """Position of a car row."""
    return wp.vec3(cars[b, CAR_POSITION], cars[b, CAR_POSITION + 1], cars[b, CAR_POSITION + 2])


@wp.kernel(enable_backward=False)
def reset_tracker(
    rows: wp.array2d(dtype=wp.float32),
    cars: wp.array2d(dtype=wp.float32),
    track_index: wp.array(dtype=wp.int32),
    start_zone: wp.array(dtype=wp.int32),
    mask: wp.array(dtype=wp.bool),
    zones: ZoneTable,
    num_previous: int,
):
    """Reset the rows of the masked cars; before its first action a car counts as having held the gas."""
    b = wp.tid()
    if not mask[b]:
        return
    for i in range(rows.shape[1]):
        rows[b, i] = 0.0
    for i in range(num_previous):
        rows[b, PREVIOUS_ACTIONS + i] = float(FORWARD)
    track = track_index[b]
    position = car_position(cars, b)
    zone = follow_zone(zones, track, start_zone[b], int(cars[b, CAR_CHECKPOINTS]), position)
    rows[b, ZONE] = float(zone)
    rows[b, PROGRESS_ZONE] = float(zone)
    rows[b, PROGRESS] = progress_at(zones, track, zone, position)
    rows[b, TIME] = cars[b, CAR_TIME]
    if cars[b, CAR_GEARBOX] != 0.0:
        rows[b, GEARBOX_COUNTER] = 1.0


@wp.func
def cause_of_end(
    rows: wp.array2d(dtype=wp.float32),
    cars: wp.array2d(dtype=wp.float32),
    zones: ZoneTable,
    limits: TrackerLimits,
    track: int,
    b: int,
) -> float:
    """Why the episode is over, by the row's new times; 0 while it goes on."""
    if cars[b, CAR_FINISHED] > 0.5:
        return FINISHED
    if rows[b, TIME] >= limits.race_ms:
        return TIME_LIMIT
    if rows[b, STALLED] >= limits.no_progress_ms:
        return NO_PROGRESS
    if rows[b, OVERTURNED] >= limits.overturned_ms:
        return IS_OVERTURNED
    if rows[b, AIRBORNE] >= limits.airborne_ms:
        return IS_AIRBORNE
    here = zones.centre[zones.offset[track] + int(rows[b, ZONE])]
    if square_distance(here, car_position(cars, b)) > WORLD_EDGE_M * WORLD_EDGE_M:
        return OUT_OF_WORLD
    return 0.0


@wp.kernel(enable_backward=False)
def update_tracker(
    rows: wp.array2d(dtype=wp.float32),
    cars: wp.array2d(dtype=wp.float32),
    track_index: wp.array(dtype=wp.int32),
    actions: wp.array2d(dtype=wp.int64),
    zones: ZoneTable,
    limits: TrackerLimits,
    num_previous: int,
):
    """Follow every car through one step."""
    b = wp.tid()
    for i in range(CAR_SIZE):
        if not wp.isfinite(cars[b, i]):
            rows[b, END_CAUSE] = INVALID
            return
    slots = actions.shape[1]
    for i in range(num_previous):
        if i + slots < num_previous:
            rows[b, PREVIOUS_ACTIONS + i] = rows[b, PREVIOUS_ACTIONS + i + slots]
        else:
            rows[b, PREVIOUS_ACTIONS + i] = float(actions[b, i + slots - num_previous])

    # where the car is
    track = track_index[b]
    position = car_position(cars, b)
    checkpoints = int(cars[b, CAR_CHECKPOINTS])
    zone = follow_zone(zones, track, int(rows[b, ZONE]), checkpoints, position)
    time = cars[b, CAR_TIME]
    elapsed = time - rows[b, TIME]
    rows[b, ZONE] = float(zone)
    rows[b, PROGRESS] = progress_at(zones, track, zone, position)
    rows[b, TIME] = time
    stalled = rows[b, STALLED] + elapsed
    if float(zone) >= rows[b, PROGRESS_ZONE] + LEAST_SPEED * limits.no_progress_ms:
        rows[b, PROGRESS_ZONE] = float(zone)
        stalled = float(0.0)
    rows[b, STALLED] = stalled
    # how it is doing
    overturned = float(0.0)
    if cars[b, CAR_ROTATION + 4] < UPRIGHT:
        overturned = rows[b, OVERTURNED] + elapsed
    rows[b, OVERTURNED] = overturned
    airborne = float(0.0)
    wheels = cars[b, CAR_CONTACT] + cars[b, CAR_CONTACT + 1] + cars[b, CAR_CONTACT + 2] + cars[b, CAR_CONTACT + 3]
    if wheels == 0.0:
        airborne = rows[b, AIRBORNE] + elapsed
    rows[b, AIRBORNE] = airborne
    counter = float(0.0)
    if cars[b, CAR_GEARBOX] != 0.0:
        counter = rows[b, GEARBOX_COUNTER] + 1.0
    rows[b, GEARBOX_COUNTER] = counter
    if checkpoints > 0:
        last = rows.shape[1] - 1  # times of gates are the row's end
        rows[b, wp.min(PREVIOUS_ACTIONS + num_previous + checkpoints - 1, last)] = cars[b, CAR_CHECKPOINT_TIME]

    cause = cause_of_end(rows, cars, zones, limits, track, b)
    if cause == FINISHED:
        rows[b, TIME] = cars[b, CAR_CHECKPOINT_TIME]
        rows[b, PROGRESS] = zones.finish_distance[track]
    rows[b, END_CAUSE] = cause
