"""Roads from pieces: straights and arcs laid end to end, each with its own height, width, bank and surface."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tm_torchrl.tracks.surfaces import Surface
from tm_torchrl.tracks.track import Track

BACK_FACE_M = 4.0  # length of a jump's far side: short enough to fly off, flat enough not to stop a car driving back
MAX_KICK = 0.25
NUM_CHECKPOINTS = 3
CLOSING_M = 0.05  # how far apart a circuit's ends may be


@dataclass(frozen=True)
class Piece:
    """A stretch of road of one curvature.

    Args:
        length_m: Length along the centreline on the map.
        turn_deg: Change of heading over the piece, positive to the left.
        rise_m: Height gained over the piece.
        bank: Rise per metre towards the outside of the bend; it has no effect on a straight.
        half_width_m: Distance from the centreline to the road's edge; None takes the course's.
        surface: Surface of the road.
        kick: If not 0, the piece is a jump's ramp that ends in this slope; the road falls back to the ground after it.
    """

    length_m: float
    turn_deg: float = 0.0
    rise_m: float = 0.0
    bank: float = 0.0
    half_width_m: float | None = None
    surface: Surface = Surface.ASPHALT
    kick: float = 0.0

    def __post_init__(self) -> None:
        if not self.length_m > 0.0:
            raise ValueError(f"length_m must be above 0, got {self.length_m!r}")
        if not 0.0 <= self.kick <= MAX_KICK:
            raise ValueError(f"kick must be 0..{MAX_KICK}, got {self.kick!r}; steeper ramps throw cars off the track")


def straight(length_m: float, *, rise_m: float = 0.0, surface: Surface = Surface.ASPHALT) -> Piece:
    """A straight piece."""
    return Piece(length_m, rise_m=rise_m, surface=surface)


def arc(radius_m: float, turn_deg: float, *, bank: float = 0.0, surface: Surface = Surface.ASPHALT) -> Piece:
    """A bend; positive turns go left.

    >>> round(arc(16.0, 90.0).length_m, 3)
    25.133
    """
    return Piece(radius_m * abs(math.radians(turn_deg)), turn_deg=turn_deg, bank=bank, surface=surface)


def jump(*, kick: float = 0.18, ramp_m: float = 16.0, landing_m: float = 80.0) -> tuple[Piece, ...]:
    """A ramp that breaks off and level road to land on."""
    return Piece(ramp_m, kick=kick), Piece(landing_m)


def chicane(*, radius_m: float = 20.0, turn_deg: float = 30.0, half_width_m: float = 5.0) -> tuple[Piece, ...]:
    """A narrow weave to both sides that ends in line with its beginning."""
    bend = replace(arc(radius_m, turn_deg), half_width_m=half_width_m)
    turns = (1, -2, 1, -1, 2, -1)
    return tuple(replace(bend, length_m=bend.length_m * abs(n), turn_deg=bend.turn_deg * n) for n in turns)


def lay(
    name: str,
    pieces: Sequence[Piece],
    *,
    half_width_m: float = 9.0,
    wall_offset_m: float = 5.0,
    num_laps: int | None = None,
    start_m: float = 16.0,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Track:
    """Lay pieces end to end, at first along +z, and make a track of them.

    Args:
        name: Name of the track.
        pieces: The pieces, at least one.
        half_width_m: Half the road's width where a piece does not set its own.
        wall_offset_m: Metres from the road's edge to the wall.
        num_laps: Laps of a circuit, which must end where it begins; ``None`` for an open course.
        start_m: Metres from the beginning to the start line, and from the finish line to the end of an open course.
        origin: Where the road begins.
    """
    if not pieces:
        raise ValueError("pieces=[]: must have at least one piece")
    poses = _poses(pieces, (origin[0], origin[2], 0.0))
    ends = np.concatenate([[0.0], np.cumsum([piece.length_m for piece in pieces])])
    is_circuit = num_laps is not None
    if is_circuit:
        _require_closed(name, pieces, poses)
    total = float(ends[-1])
    num_steps = max(round(total), 1)
    run = np.arange(num_steps if is_circuit else num_steps + 1) * (total / num_steps)
    which = np.clip(np.searchsorted(ends, run, side="right") - 1, 0, len(pieces) - 1)
    x, z = _places(pieces, poses, which, run - ends[which])
    height = origin[1] + _heights(pieces, ends, run, which, is_circuit=is_circuit)
    widths = [half_width_m if piece.half_width_m is None else piece.half_width_m for piece in pieces]
    banks = [-piece.bank if piece.turn_deg > 0.0 else piece.bank * (piece.turn_deg < 0.0) for piece in pieces]
    start = round(start_m / total * num_steps)
    finish = start if is_circuit else num_steps - round(start_m)
    race = num_steps if is_circuit else finish - start
    gates = start + np.round(np.arange(1, NUM_CHECKPOINTS + 1) * race / (NUM_CHECKPOINTS + 1)).astype(np.int64)
    return Track(
        name,
        np.stack([x, height, z], axis=1),
        half_width=_softened(np.array(widths)[which], 6, is_circuit=is_circuit),
        bank=_softened(np.array(banks)[which], 8, is_circuit=is_circuit),
        surface=np.array([int(piece.surface) for piece in pieces])[which],
        wall_offset=wall_offset_m,
        is_circuit=is_circuit,
        num_laps=num_laps or 1,
        start=start,
        finish=finish,
        checkpoints=gates % num_steps if is_circuit else gates,
    )


def _poses(pieces: Sequence[Piece], first: tuple[float, float, float]) -> np.ndarray:
    """(x, z, heading) at the beginning of each piece and at the end of the last."""
    x, z, heading = first
    poses = [first]
    for piece in pieces:
        turn = math.radians(piece.turn_deg)
        # the chord of an arc looks half the turn off its beginning
        half = 0.5 * turn
        chord = piece.length_m * (math.sin(half) / half if half else 1.0)
        x, z = x + chord * math.sin(heading + half), z + chord * math.cos(heading + half)
        heading = heading + turn
        poses.append((x, z, heading))
    return np.array(poses)


def _places(
    pieces: Sequence[Piece], poses: np.ndarray, which: np.ndarray, into: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rate = np.array([math.radians(piece.turn_deg) / piece.length_m for piece in pieces])[which]
    half = 0.5 * rate * into
    chord = into * np.where(half == 0.0, 1.0, np.sin(half) / np.where(half == 0.0, 1.0, half))
    x, z, heading = poses[which].T
    return x + chord * np.sin(heading + half), z + chord * np.cos(heading + half)


def _heights(
    pieces: Sequence[Piece], ends: np.ndarray, run: np.ndarray, which: np.ndarray, *, is_circuit: bool
) -> np.ndarray:
    """Monotone cubic between the pieces' ends (no piece overshoots), softened; jumps stay sharp."""
    lengths = np.diff(ends)
    rises = np.array([piece.rise_m for piece in pieces])
    grade = rises / lengths
    before, after = np.roll(grade, 1), grade
    if not is_circuit:
        before = np.concatenate([grade[:1], grade[:-1]])
    product = before * after
    knot = np.where(product > 0.0, 2.0 * product / np.where(product > 0.0, before + after, 1.0), 0.0)
    knot = np.append(knot, knot[0] if is_circuit else grade[-1])
    u = (run - ends[which]) / lengths[which]
    base = np.concatenate([[0.0], np.cumsum(rises)])[which]
    ramp = rises[which] * (3.0 * u**2 - 2.0 * u**3)
    ease = lengths[which] * (knot[which] * (u**3 - 2.0 * u**2 + u) + knot[which + 1] * (u**3 - u**2))
    height = _softened(base + ramp + ease, 6, is_circuit=is_circuit)
    for piece, low, high in zip(pieces, ends[:-1], ends[1:], strict=True):
        if piece.kick:
            height = height + _kicker(run, low, high, piece.kick)
    return height


def _kicker(run: np.ndarray, low: float, high: float, kick: float) -> np.ndarray:
    """A ramp whose slope grows to ``kick`` over its first half and then stays; after it the road falls back."""
    half = 0.5 * (high - low)
    into = np.clip(run - low, 0.0, 2.0 * half)
    rise = kick * np.where(into < half, into**2 / (2.0 * half), into - 0.5 * half)
    return rise * np.clip(1.0 - (run - high) / BACK_FACE_M, 0.0, 1.0)


def _softened(values: np.ndarray, reach: int, *, is_circuit: bool) -> np.ndarray:
    """Two passes of a moving average over ``reach`` points to each side."""
    window = np.full(2 * reach + 1, 1.0 / (2 * reach + 1))
    for _ in range(2):
        padded = np.pad(values, reach, mode="wrap" if is_circuit else "edge")
        values = np.convolve(padded, window, mode="valid")
    return values


def _require_closed(name: str, pieces: Sequence[Piece], poses: np.ndarray) -> None:
    miss = float(np.hypot(*(poses[-1, :2] - poses[0, :2])))
    turn = sum(piece.turn_deg for piece in pieces)
    rise = sum(piece.rise_m for piece in pieces)
    if miss > CLOSING_M or abs(turn % 360.0 - 180.0) < 180.0 - 0.1 or abs(rise) > CLOSING_M:
        raise ValueError(
            f"pieces of circuit {name!r} must end where they begin, but end {miss:.2f} m away on the map and "
            f"{rise:.2f} m higher, and turn by {turn:.1f} degrees in all (must be a multiple of 360)"
        )
