"""Where a car begins an episode: on the start line, along the road, askew, off it, against a wall, or on a fast lap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import warp as wp

from tm_torchrl.sim.place_kernel import Course, StartShares
from tm_torchrl.tracks import Track, speed_profile

LAPS = ("author", "record", "own")  # or a script of inputs
SHARES = ("zone", "askew", "off_road", "wall", "lap", "lost_time")


@dataclass(frozen=True)
class Starts:
    """Shares of the episodes that begin in each way; the rest of them begin at rest on the start line.

    Args:
        zone: Anywhere along the road, aligned within about 11 degrees, at up to a plausible speed for the place.
        askew: On the road, turned by 45 to 140 degrees, slow.
        off_road: Between road edge and wall, turned by up to 40 degrees, at up to 60 % of the plausible speed.
        wall: At rest with the nose against a wall.
        lap: In the middle of a fast lap: in any of its states.
        lost_time: On that lap too, near where training loses the most time against it, or has begun longest ago.
        laps: Which lap: ``"author"``, the one behind the author medal; ``"record"``, the fastest that is known of the
            track; a script of inputs (``FILE.inputs``); or ``"own"``, the fastest that this process's cars have driven
            from the start line, and until there is one, cars begin anywhere along the road instead.
        jitter_m: Largest random shift of every start along and across the road, in metres.
        jitter_speed: Largest random forward speed added to every start, in m/s.
    """

    zone: float = 0.0
    askew: float = 0.0
    off_road: float = 0.0
    wall: float = 0.0
    lap: float = 0.0
    lost_time: float = 0.0
    laps: str = "author"
    jitter_m: float = 0.0
    jitter_speed: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if field.name != "laps" and not (isinstance(value, (int, float)) and 0.0 <= value < float("inf")):
                raise ValueError(f"starts: {field.name}={value!r}: must be a number of at least 0")
        if self.laps not in LAPS and not (isinstance(self.laps, str) and self.laps.endswith(".inputs")):
            raise ValueError(f"starts: laps={self.laps!r}: must be {', '.join(LAPS)} or a script, FILE.inputs")
        total = sum(getattr(self, name) for name in SHARES)
        if total > 1.0 + 1e-9:
            raise ValueError(f"starts: {' + '.join(SHARES)} sum to {total:g}; must be at most 1")

    @property
    def uses_laps(self) -> bool:
        """Whether some episodes begin on a lap."""
        return self.lap > 0.0 or self.lost_time > 0.0


@dataclass(frozen=True)
class Randomisation:
    """Domain randomisation: at every reset each car draws its own factors from 1 - share to 1 + share.

    Args:
        mass: Share by which the car may be lighter or heavier.
        grip: Share by which its tyres may grip less or more.
        engine: Share by which its engine may pull less or more.
    """

    mass: float = 0.0
    grip: float = 0.0
    engine: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, (int, float)) and 0.0 <= value <= 0.5):
                raise ValueError(f"randomisation: {field.name}={value!r}: must be between 0 (off) and 0.5")


def build_course(tracks: Sequence[Track], *, device: str) -> Course:
    """Copy the centrelines of all tracks to a device."""
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
    """Cumulative shares, as the kernel needs them."""
    shares = StartShares()
    shares.zone = starts.zone
    shares.askew = shares.zone + starts.askew
    shares.off_road = shares.askew + starts.off_road
    shares.wall = shares.off_road + starts.wall
    shares.lap = shares.wall + starts.lap
    shares.lost_time = shares.lap + starts.lost_time
    shares.jitter_m = starts.jitter_m
    shares.jitter_speed = starts.jitter_speed
    shares.mass = randomisation.mass
    shares.grip = randomisation.grip
    shares.engine = randomisation.engine
    return shares
