"""Where a car begins an episode: on the line, anywhere on the way, askew, off the road or against a wall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import warp as wp

from tm_torchrl.sim import state as s
from tm_torchrl.sim import tuning as t
from tm_torchrl.sim.car import Car
from tm_torchrl.sim.ground import Ground, plot_of, sample
from tm_torchrl.sim.race import Gates
from tm_torchrl.tracks import Track, speed_profile
from tm_torchrl.tracks.zones import NUM_BEFORE, ZONE_SPACING_M

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@dataclass(frozen=True)
class Starts:
    """Shares of the ways to start; what they leave of 1 starts on the line, standing.

    Args:
        zone: on the way, aligned within about 11 degrees, at up to a plausible speed for the place.
        askew: on the road, turned 45 to 140 degrees, slow.
        off_road: between road edge and wall, up to 40 degrees askew, at up to 60 % of the plausible speed.
        wall: standing with the nose against a wall.
        jitter_m: greatest random shift of every start, metres to each side and along the track.
        jitter_speed: greatest random forward speed added to every start, m/s.
    """

    zone: float = 0.0
    askew: float = 0.0
    off_road: float = 0.0
    wall: float = 0.0
    jitter_m: float = 0.0
    jitter_speed: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, (int, float)) and 0.0 <= value < float("inf")):
                raise ValueError(f"starts: {field.name}={value!r} must be a number of at least 0")
        total = self.zone + self.askew + self.off_road + self.wall
        if total > 1.0 + 1e-9:
            raise ValueError(f"starts: the shares zone + askew + off_road + wall sum to {total:g}; at most 1 is possible")


@dataclass(frozen=True)
class Randomisation:
    """Each car's own physics, redrawn at every reset: a factor within 1 -+ the given share.

    Args:
        mass: share by which the car may be lighter or heavier.
        grip: share by which tyres may grip less or more.
        engine: share by which the engine may pull less or more.
    """

    mass: float = 0.0
    grip: float = 0.0
    engine: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, (int, float)) and 0.0 <= value <= 0.5):
                raise ValueError(f"randomisation: {field.name}={value!r} must lie between 0 (off) and 0.5")


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

    zone: wp.float32
    askew: wp.float32
    off_road: wp.float32
    wall: wp.float32
    jitter_m: wp.float32
    jitter_speed: wp.float32
    mass: wp.float32
    grip: wp.float32
    engine: wp.float32


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
def symmetric(rng: wp.uint32) -> float:
    """Uniform in (-1, 1)."""
    return 2.0 * wp.randf(rng) - 1.0


@wp.kernel(enable_backward=False)
def place_cars(
    state: wp.array2d(dtype=wp.float32),
    track_index: wp.array(dtype=wp.int32),
    start_zone: wp.array(dtype=wp.int32),
    mask: wp.array(dtype=wp.bool),
    ground: Ground,
    gates: Gates,
    course: Course,
    shares: StartShares,
    num_tracks: int,
    seed: int,
    first_car: int,
):
    """Reset the masked cars; each draws from (seed, car, episode) alone."""
    b = wp.tid()
    if not mask[b]:
        return
    episode = state[b, s.EPISODE] + 1.0
    rng = wp.rand_init(seed, (first_car + b) * 1000003 + int(episode))
    track = wp.min(int(wp.randf(rng) * float(num_tracks)), num_tracks - 1)
    kind = wp.randf(rng)
    place = wp.randf(rng)
    aside = symmetric(rng)
    turn = symmetric(rng)
    haste = wp.randf(rng)
    shift_along = symmetric(rng)
    shift_aside = symmetric(rng)
    push = wp.randf(rng)

    points = course.num_points[track]
    base = course.offset[track]
    along = int(place * float(course.span[track]))
    if kind >= shares.wall:
        along = 0
    at = (course.start[track] + along) % points
    centre = course.centre[base + at]
    ahead = course.centre[base + (at + 1) % points] - course.centre[base + (at + points - 1) % points]
    tangent = wp.vec3(ahead[0], 0.0, ahead[2])
    tangent = tangent / wp.sqrt(wp.dot(tangent, tangent) + 1.0e-9)
    left = wp.vec3(tangent[2], 0.0, -tangent[0])
    half_width = course.half_width[base + at]
    wall_at = half_width + ground.wall_offset[track]
    pace = course.pace[base + at]

    facing = tangent
    lateral = float(0.0)
    half_turn = float(0.0)  # tangent of half the heading error
    speed = float(0.0)
    if kind < shares.zone:
        lateral = 0.7 * half_width * aside
        half_turn = 0.1 * turn
        speed = haste * pace
    elif kind < shares.askew:
        lateral = 0.7 * half_width * aside
        half_turn = 2.75 * turn
        if wp.abs(half_turn) < 0.41:
            half_turn = 0.41
        speed = 12.0 * haste
    elif kind < shares.off_road:
        lateral = half_width + 0.5 + (wall_at - half_width - 2.0) * wp.abs(aside)
        half_turn = 0.36 * turn
        speed = 0.6 * haste * pace
    elif kind < shares.wall:
        lateral = wall_at - 2.3
        facing = left
        half_turn = 0.8 * turn
    if aside < 0.0 and kind >= shares.askew and kind < shares.wall:
        lateral = -lateral
        if kind >= shares.off_road:
            facing = -left
    norm = 1.0 / (1.0 + half_turn * half_turn)
    cosine = (1.0 - half_turn * half_turn) * norm
    sine = 2.0 * half_turn * norm
    forward = cosine * facing + sine * wp.vec3(facing[2], 0.0, -facing[0])

    where = centre + (lateral + shares.jitter_m * shift_aside) * left + (shares.jitter_m * shift_along) * tangent
    below = sample(ground, plot_of(ground, track), where[0], where[2])
    up = wp.vec3(-below.height_x, 1.0, -below.height_z)
    up = up / wp.sqrt(wp.dot(up, up))
    forward = forward - wp.dot(forward, up) * up
    forward = forward / wp.sqrt(wp.dot(forward, forward))

    car = Car()
    car.position = wp.vec3(where[0], below.height, where[2]) + t.REST_HEIGHT_M * up
    car.velocity = (speed + shares.jitter_speed * push) * forward
    car.attitude = attitude_from(wp.cross(up, forward), up, forward)
    car.gear = 1.0
    car.contact = wp.vec4(1.0, 1.0, 1.0, 1.0)
    rest = t.REST_COMPRESSION_M
    car.compression = wp.vec4(rest, rest, rest, rest)
    material = float(ground.material[below.cell])
    car.material = wp.vec4(material, material, material, material)
    car.grip = 1.0 + shares.grip * symmetric(rng)
    car.engine = 1.0 + shares.engine * symmetric(rng)
    car.inverse_mass = 1.0 / (1.0 + shares.mass * symmetric(rng))

    passed = float(0.0)
    for gate in range(gates.per_lap[track] - 1):
        if course.gate_at[gates.offset[track] + gate] <= along:
            passed = passed + 1.0
    for i in range(state.shape[1]):
        state[b, i] = 0.0
    s.store_car(state, b, car, 0.0)
    state[b, s.SCALES] = car.grip
    state[b, s.SCALES + 1] = car.engine
    state[b, s.SCALES + 2] = car.inverse_mass
    state[b, s.CHECKPOINTS] = passed
    state[b, s.EPISODE] = episode
    state[b, s.TRACK] = float(track)
    if speed == 0.0:
        state[b, s.GEARBOX] = 2.0
    track_index[b] = track
    start_zone[b] = NUM_BEFORE + int(float(along) / ZONE_SPACING_M)


def build_course(tracks: Sequence[Track], *, device: str) -> Course:
    """Put the centrelines of all tracks on a device."""
    centres = [np.asarray(track.centreline) for track in tracks]
    counts = [len(c) for c in centres]
    course = Course()
    course.centre = wp.array(np.concatenate(centres).astype(np.float32), dtype=wp.vec3, device=device)
    widths = np.concatenate([track.half_width for track in tracks])
    course.half_width = wp.array(widths.astype(np.float32), dtype=wp.float32, device=device)
    paces = np.concatenate([speed_profile(track) for track in tracks])
    course.pace = wp.array(np.round(paces * 64.0).astype(np.float32) / 64.0, dtype=wp.float32, device=device)
    course.offset = wp.array(np.cumsum([0, *counts[:-1]]), dtype=wp.int32, device=device)
    course.num_points = wp.array(counts, dtype=wp.int32, device=device)
    course.start = wp.array([track.start for track in tracks], dtype=wp.int32, device=device)
    course.span = wp.array([_lap_points(track) - 60 for track in tracks], dtype=wp.int32, device=device)
    gate_at = [(np.append(track.checkpoints, track.finish) - track.start) % len(track.centreline) for track in tracks]
    course.gate_at = wp.array(np.concatenate(gate_at), dtype=wp.int32, device=device)
    return course


def _lap_points(track: Track) -> int:
    """Centreline points in one lap."""
    return len(track.centreline) if track.is_circuit else track.finish - track.start


def start_shares(starts: Starts, randomisation: Randomisation) -> StartShares:
    """The cumulative form that the kernel takes."""
    shares = StartShares()
    shares.zone = starts.zone
    shares.askew = shares.zone + starts.askew
    shares.off_road = shares.askew + starts.off_road
    shares.wall = shares.off_road + starts.wall
    shares.jitter_m = starts.jitter_m
    shares.jitter_speed = starts.jitter_speed
    shares.mass = randomisation.mass
    shares.grip = randomisation.grip
    shares.engine = randomisation.engine
    return shares
