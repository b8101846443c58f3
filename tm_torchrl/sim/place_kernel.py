"""The kernel that places cars at their starts; ``starts.py`` explains the ways to start."""

import warp as wp

import tm_torchrl.sim.state as s
import tm_torchrl.sim.tuning as t
from tm_torchrl.sim.car import Car
from tm_torchrl.sim.gates import Gates
from tm_torchrl.sim.ground import Ground, Plot, plot_of, sample
from tm_torchrl.tracks.zones import NUM_BEFORE, ZONE_SPACING_M

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.struct
class Course:
    """Centrelines of all tracks, for placing cars."""

    centre: wp.array(dtype=wp.vec3)
    half_width: wp.array(dtype=wp.float32)
    pace: wp.array(dtype=wp.float32)  # plausible speed
    offset: wp.array(dtype=wp.int32)  # per track
    num_points: wp.array(dtype=wp.int32)
    start: wp.array(dtype=wp.int32)
    span: wp.array(dtype=wp.int32)  # points from the start in which a car may be placed
    gate_at: wp.array(dtype=wp.int32)  # per gate: points after the start


@wp.struct
class StartShares:
    """Cumulative shares, jitter and randomisation as the kernel takes them."""

    zone: float
    askew: float
    off_road: float
    wall: float
    lap: float
    lost_time: float
    jitter_m: float
    jitter_speed: float
    mass: float
    grip: float
    engine: float


@wp.struct
class LapTable:
    """States of a lap on each track, from which cars may begin."""

    state: wp.array2d(dtype=wp.float32)  # [tracks * capacity, STATE.size]
    zone: wp.array(dtype=wp.int32)  # the zone of each state
    chance: wp.array(dtype=wp.float32)  # of each state and those before it, where time is lost
    count: wp.array(dtype=wp.int32)  # per track: states of its lap, 0 without one
    capacity: int


@wp.struct
class Draws:
    """The random numbers of one reset; offsets are in -1..1, the others in 0..1."""

    track: int
    kind: float  # way to start
    place: float  # along the road
    aside: float
    turn: float
    speed: float
    shift_along: float
    shift_aside: float
    push: float  # additional forward speed
    grip: float
    engine: float
    mass: float


@wp.struct
class Pose:
    """A start relative to the centreline."""

    lateral: float  # metres to the left
    forward: wp.vec3  # level direction of the nose
    speed: float


@wp.func
def draw_start(seed: int, car: int, episode: int, num_tracks: int) -> Draws:
    """Draw everything that a reset needs; the order of the draws is part of the results."""
    rng = wp.rand_init(seed, car * 1000003 + episode)
    draws = Draws()
    draws.track = wp.min(int(wp.randf(rng) * float(num_tracks)), num_tracks - 1)
    draws.kind = wp.randf(rng)
    draws.place = wp.randf(rng)
    draws.aside = wp.randf(rng, -1.0, 1.0)
    draws.turn = wp.randf(rng, -1.0, 1.0)
    draws.speed = wp.randf(rng)
    draws.shift_along = wp.randf(rng, -1.0, 1.0)
    draws.shift_aside = wp.randf(rng, -1.0, 1.0)
    draws.push = wp.randf(rng)
    draws.grip = wp.randf(rng, -1.0, 1.0)
    draws.engine = wp.randf(rng, -1.0, 1.0)
    draws.mass = wp.randf(rng, -1.0, 1.0)
    return draws


@wp.func
def pose_of(
    draws: Draws, shares: StartShares, tangent: wp.vec3, half_width: float, wall_at: float, pace: float
) -> Pose:
    """Where across the road the drawn way to start puts a car, which way it looks and how fast it is."""
    left = wp.vec3(tangent[2], 0.0, -tangent[0])
    kind = draws.kind
    aside = draws.aside
    facing = tangent
    pose = Pose()
    half_turn = float(0.0)  # tangent of half the heading error
    if kind < shares.zone:
        pose.lateral = 0.7 * half_width * aside
        half_turn = 0.1 * draws.turn
        pose.speed = draws.speed * pace
    elif kind < shares.askew:
        pose.lateral = 0.7 * half_width * aside
        half_turn = 2.75 * draws.turn
        if wp.abs(half_turn) < 0.41:
            half_turn = 0.41
        pose.speed = 12.0 * draws.speed
    elif kind < shares.off_road:
        pose.lateral = half_width + 0.5 + (wall_at - half_width - 2.0) * wp.abs(aside)
        half_turn = 0.36 * draws.turn
        pose.speed = 0.6 * draws.speed * pace
    elif kind < shares.wall:
        pose.lateral = wall_at - 2.3
        facing = left
        half_turn = 0.8 * draws.turn
    if aside < 0.0 and kind >= shares.askew and kind < shares.wall:
        pose.lateral = -pose.lateral
        if kind >= shares.off_road:
            facing = -left
    norm = 1.0 / (1.0 + half_turn * half_turn)
    cosine = (1.0 - half_turn * half_turn) * norm
    sine = 2.0 * half_turn * norm
    pose.forward = cosine * facing + sine * wp.vec3(facing[2], 0.0, -facing[0])
    return pose


@wp.func
def attitude_from(left: wp.vec3, up: wp.vec3, ahead: wp.vec3) -> wp.quat:
    """Quaternion of the rotation with these columns."""
    trace = left[0] + up[1] + ahead[2]
    if trace > 0.0:
        r = wp.sqrt(trace + 1.0) * 2.0
        return wp.quat((up[2] - ahead[1]) / r, (ahead[0] - left[2]) / r, (left[1] - up[0]) / r, 0.25 * r)
    if left[0] > up[1] and left[0] > ahead[2]:
        r = wp.sqrt(1.0 + left[0] - up[1] - ahead[2]) * 2.0
        return wp.quat(0.25 * r, (up[0] + left[1]) / r, (ahead[0] + left[2]) / r, (up[2] - ahead[1]) / r)
    if up[1] > ahead[2]:
        r = wp.sqrt(1.0 + up[1] - left[0] - ahead[2]) * 2.0
        return wp.quat((up[0] + left[1]) / r, 0.25 * r, (ahead[1] + up[2]) / r, (ahead[0] - left[2]) / r)
    r = wp.sqrt(1.0 + ahead[2] - left[0] - up[1]) * 2.0
    return wp.quat((ahead[0] + left[2]) / r, (ahead[1] + up[2]) / r, 0.25 * r, (left[1] - up[0]) / r)


@wp.func
def standing_car(ground: Ground, track: int, where: wp.vec3, direction: wp.vec3) -> Car:
    """A car on its wheels at a place on the map, with its nose along ``direction``."""
    below = sample(ground, plot_of(ground, track), where[0], where[2])
    up = wp.vec3(-below.height_x, 1.0, -below.height_z)
    up = up / wp.sqrt(wp.dot(up, up))
    forward = direction - wp.dot(direction, up) * up
    forward = forward / wp.sqrt(wp.dot(forward, forward))
    car = Car()
    car.position = wp.vec3(where[0], below.height, where[2]) + t.REST_HEIGHT_M * up
    car.velocity = forward  # of 1 m/s
    car.attitude = attitude_from(wp.cross(up, forward), up, forward)
    car.gear = 1.0
    car.contact = wp.vec4(1.0, 1.0, 1.0, 1.0)
    rest = t.REST_COMPRESSION_M
    car.compression = wp.vec4(rest, rest, rest, rest)
    material = float(ground.material[below.cell])
    car.material = wp.vec4(material, material, material, material)
    return car


@wp.func
def drawn_state(laps: LapTable, track: int, draws: Draws, shares: StartShares) -> int:
    """The row of the lap's state that was drawn: any, or by the chances."""
    first = track * laps.capacity
    last = first + laps.count[track] - 1
    if draws.kind < shares.lap:
        return wp.min(first + int(draws.place * float(laps.count[track])), last)
    low = first
    high = last
    while low < high:
        middle = (low + high) / 2
        if laps.chance[middle] > draws.place:
            high = middle
        else:
            low = middle + 1
    return low


@wp.func
def place_on_lap(
    state: wp.array2d(dtype=wp.float32),
    b: int,
    laps: LapTable,
    row: int,
    ground: Ground,
    plot: Plot,
    draws: Draws,
    shares: StartShares,
):
    """Copy a state of a lap to a car, a little shifted and slower or faster; its clock begins at 0."""
    for i in range(state.shape[1]):
        state[b, i] = laps.state[row, i]
    ahead = wp.vec3(state[b, s.ROTATION + 2], 0.0, state[b, s.ROTATION + 8])
    ahead = ahead / wp.sqrt(wp.dot(ahead, ahead) + 1.0e-9)
    left = wp.vec3(ahead[2], 0.0, -ahead[0])
    before = s.load_vec3(state, b, s.POSITION)
    where = before + shares.jitter_m * (draws.shift_aside * left + draws.shift_along * ahead)
    climb = sample(ground, plot, where[0], where[2]).height - sample(ground, plot, before[0], before[2]).height
    s.store_vec3(state, b, s.POSITION, wp.vec3(where[0], where[1] + climb, where[2]))
    velocity = s.load_vec3(state, b, s.VELOCITY)
    speed = wp.sqrt(wp.dot(velocity, velocity))
    change = shares.jitter_speed * (2.0 * draws.push - 1.0)
    s.store_vec3(state, b, s.VELOCITY, velocity * wp.max(speed + change, 0.0) / wp.max(speed, 1.0))
    state[b, s.RACE_TIME] = 0.0
    state[b, s.CHECKPOINT_TIME] = 0.0


@wp.kernel(enable_backward=False)
def place_cars(
    state: wp.array2d(dtype=wp.float32),
    track_index: wp.array(dtype=wp.int32),
    start_zone: wp.array(dtype=wp.int32),
    mask: wp.array(dtype=wp.bool),
    ground: Ground,
    gates: Gates,
    course: Course,
    laps: LapTable,
    shares: StartShares,
    seeds: wp.array2d(dtype=wp.int32),  # seed and number of each car
):
    """Reset the masked cars; each draws from (seed, car, episode) alone."""
    b = wp.tid()
    if not mask[b]:
        return
    episode = state[b, s.EPISODE] + 1.0
    draws = draw_start(seeds[b, 0], seeds[b, 1], int(episode), course.num_points.shape[0])
    track = draws.track
    is_on_lap = draws.kind >= shares.wall and draws.kind < shares.lost_time
    if is_on_lap and laps.count[track] == 0:
        is_on_lap = False
        draws.kind = -1.0  # anywhere along the road, until there is a lap
    points = course.num_points[track]
    base = course.offset[track]
    along = int(draws.place * float(course.span[track]))
    if draws.kind >= shares.wall:
        along = 0
    at = (course.start[track] + along) % points
    centre = course.centre[base + at]
    ahead = course.centre[base + (at + 1) % points] - course.centre[base + (at + points - 1) % points]
    tangent = wp.vec3(ahead[0], 0.0, ahead[2])
    tangent = tangent / wp.sqrt(wp.dot(tangent, tangent) + 1.0e-9)
    left = wp.vec3(tangent[2], 0.0, -tangent[0])
    half_width = course.half_width[base + at]
    pose = pose_of(draws, shares, tangent, half_width, half_width + ground.wall_offset[track], course.pace[base + at])

    aside = pose.lateral + shares.jitter_m * draws.shift_aside
    where = centre + aside * left + (shares.jitter_m * draws.shift_along) * tangent
    car = standing_car(ground, track, where, pose.forward)
    car.velocity = (pose.speed + shares.jitter_speed * draws.push) * car.velocity
    car.grip = 1.0 + shares.grip * draws.grip
    car.engine = 1.0 + shares.engine * draws.engine
    car.inverse_mass = 1.0 / (1.0 + shares.mass * draws.mass)

    passed = float(0.0)
    for gate in range(gates.per_lap[track] - 1):
        if course.gate_at[gates.offset[track] + gate] <= along:
            passed = passed + 1.0
    start_zone[b] = NUM_BEFORE + int(float(along) / ZONE_SPACING_M)
    if is_on_lap:
        row = drawn_state(laps, track, draws, shares)
        place_on_lap(state, b, laps, row, ground, plot_of(ground, track), draws, shares)
        start_zone[b] = laps.zone[row]
    else:
        for i in range(state.shape[1]):
            state[b, i] = 0.0
        s.store_car(state, b, car, 0.0)
        state[b, s.CHECKPOINTS] = passed
        if pose.speed == 0.0:
            state[b, s.GEARBOX] = 2.0
    state[b, s.SCALES] = car.grip
    state[b, s.SCALES + 1] = car.engine
    state[b, s.SCALES + 2] = car.inverse_mass
    state[b, s.EPISODE] = episode
    state[b, s.TRACK] = float(track)
    track_index[b] = track
