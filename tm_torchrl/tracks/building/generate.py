"""Tracks from a seed: random closed curves with hills and with jumps, chicanes and other features along them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np

from tm_torchrl.tracks.clearance import self_clearance, tightest_bend
from tm_torchrl.tracks.surfaces import Surface
from tm_torchrl.tracks.track import Track

TRAINING_SEEDS = range(10_000)  # the split on which generalisation is measured
HELD_OUT_SEEDS = range(10_000, 20_000)

MAX_REDRAWS = 200
RUN_UP_M, RUN_OUT_M = 16, 30  # of an open course, before its start and after its finish
FEATURES = ("jump", "chicane", "narrow", "dirt", "turbo")
FEATURE_M = 60  # length of a jump, chicane, narrow part or stretch of another surface
WALL_OFFSET_M, BANK = 5.0, 0.08  # to the wall beside the road; largest cross slope in bends
NUM_CHECKPOINTS = 3
JUMP_RAMP_M, JUMP_BACK_M, JUMP_KICK = 16, 4, 0.16


def generate_track(
    seed: int,
    *,
    name: str | None = None,
    length_m: float = 1000.0,
    kind: Literal["circuit", "course"] = "circuit",
    half_width_m: float = 9.0,
    hills_m: float = 5.0,
    features: Sequence[str] = (),
) -> Track:
    """A reproducible track: the same arguments give the same track everywhere.

    Draws closed curves until one keeps clear of itself and has no bend tighter than its walls allow. Features lie on
    its straightest stretches.

    Args:
        seed: Seeds the track; use ``TRAINING_SEEDS`` for training and ``HELD_OUT_SEEDS`` for tests of generalisation.
        name: Name of the track; ``"KIND-SEED"`` by default.
        length_m: Length of a lap or course, within 2 %.
        kind: A closed circuit or an open course.
        half_width_m: Metres from the centreline to the road's edge.
        hills_m: Typical height of hills; 0 is flat.
        features: What lies along it, each as often as it is named: ``"jump"`` (a ramp that breaks off), ``"chicane"``
            (4 m to both sides), ``"narrow"`` (half the width), ``"dirt"`` (two features long), ``"turbo"`` (a pad).

    Raises:
        ValueError: An argument is out of range, or no curve fits within ``MAX_REDRAWS`` draws.

    >>> generate_track(1).is_circuit, len(generate_track(1, kind="course").checkpoints)
    (True, 3)
    """
    _check_arguments(seed, length_m, kind, hills_m, features)
    features = sorted(features, key=FEATURES.index)
    for attempt in range(MAX_REDRAWS):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, attempt])))
        plan = _closed_curve(rng, length_m)
        if kind == "course":
            plan = plan[: int(0.88 * len(plan))]
        line, half_width, cross_slope, surface = _dress(rng, plan, features, kind == "circuit", half_width_m, hills_m)
        start, finish = (0, 0) if kind == "circuit" else (RUN_UP_M, len(line) - 1 - RUN_OUT_M)
        lap = len(line) if kind == "circuit" else finish - start
        gates = start + np.arange(1, NUM_CHECKPOINTS + 1) * lap // (NUM_CHECKPOINTS + 1)
        track = Track(
            f"{kind}-{seed}" if name is None else name,
            line,
            half_width=half_width,
            bank=cross_slope,
            surface=surface,
            wall_offset=WALL_OFFSET_M,
            is_circuit=kind == "circuit",
            start=start,
            finish=finish,
            checkpoints=gates,
        )
        if tightest_bend(track)[0] > 2.0 and self_clearance(track).gap_m > 2.0:
            return track
    raise ValueError(
        f"generate_track: none of {MAX_REDRAWS} draws of seed={seed} keeps clear of itself with length_m={length_m:g}, "
        f"half_width_m={half_width_m:g}: choose a longer or narrower track"
    )


def _check_arguments(seed: Any, length_m: float, kind: str, hills_m: float, features: Sequence[str]) -> None:
    if not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed={seed!r}: must be a whole number of at least 0")
    if kind not in ("circuit", "course"):
        raise ValueError(f"kind={kind!r}: must be 'circuit' or 'course'")
    if not 300.0 <= length_m <= 6000.0:
        raise ValueError(f"length_m={length_m!r}: must be between 300 and 6000 metres")
    if not 0.0 <= hills_m <= 20.0:
        raise ValueError(f"hills_m={hills_m!r}: must be between 0 (flat) and 20 metres")
    unknown = [feature for feature in features if feature not in FEATURES]
    if unknown:
        raise ValueError(f"features={list(features)}: {unknown[0]!r} must be one of {', '.join(FEATURES)}")
    needed_m = len(features) * 2.5 * FEATURE_M
    if needed_m > length_m:
        raise ValueError(f"length_m={length_m:g}: must be at least {needed_m:g} for {len(features)} features")


def _closed_curve(rng: np.random.Generator, length_m: float) -> np.ndarray:
    """A closed curve on the map with points 1 m apart, ``[P, 2]``: a circle whose radius varies by random waves."""
    angle = np.linspace(0.0, 2.0 * np.pi, 8192, endpoint=False)
    waves = range(2, 4 + int(length_m // 400.0))
    radius = 1.0 + sum(
        rng.uniform(-0.5, 0.5) / k**0.75 * np.cos(k * angle + rng.uniform(0.0, 2.0 * np.pi)) for k in waves
    )
    radius = np.maximum(radius, 0.25)
    points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    closed = np.vstack([points, points[:1]])
    run = np.concatenate([[0.0], np.cumsum(np.sqrt(((closed[1:] - closed[:-1]) ** 2).sum(axis=1)))])
    num = round(length_m)
    at = np.arange(num) * run[-1] / num
    return np.stack([np.interp(at, run, closed[:, i]) for i in range(2)], axis=1) * (num / run[-1])


def _dress(
    rng: np.random.Generator,
    plan: np.ndarray,
    features: list[str],
    is_circuit: bool,
    half_width_m: float,
    hills_m: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centreline, half widths, banks and surfaces of a road along a plan, with its features."""
    num = len(plan)
    run = np.arange(num)
    turn = _turn_rate(plan, is_circuit)
    phase = 2.0 * np.pi * run / num
    height = sum(
        hills_m * rng.uniform(0.3, 1.0) / k**0.5 * np.cos(k * phase + rng.uniform(0.0, 2.0 * np.pi)) for k in (1, 2, 4)
    )
    height = height * np.ones(num)
    half_width: np.ndarray = np.full(num, half_width_m)
    surface = np.full(num, int(Surface.ASPHALT))
    order = list(rng.permutation(features)) if features else []
    for feature, at in zip(order, _straightest(turn, len(order)), strict=True):
        span = run - at
        inside = (span >= 0) & (span < FEATURE_M)
        wave = np.where(inside, np.sin(2.0 * np.pi * span / FEATURE_M), 0.0)
        swell = np.where(inside, np.sin(np.pi * span / FEATURE_M) ** 2, 0.0)
        if feature == "jump":
            height = height + _kicker(span)
        elif feature == "chicane":
            plan = plan + 4.0 * (wave * swell)[:, None] * _left(plan)
        elif feature == "narrow":
            half_width = half_width * (1.0 - 0.5 * np.minimum(2.0 * swell, 1.0))
        elif feature == "dirt":
            surface[(span >= 0) & (span < 2 * FEATURE_M)] = int(Surface.DIRT)
        else:
            surface[(span >= 0) & (span < 8)] = int(Surface.TURBO)
    lean = -np.clip(turn * 20.0, -1.0, 1.0) * BANK  # the outside of a left bend is on the right
    return np.stack([plan[:, 0], height, plan[:, 1]], axis=1), half_width, _smooth(lean, 8), surface


def _left(plan: np.ndarray) -> np.ndarray:
    ahead = np.gradient(plan, axis=0)
    ahead = ahead / np.sqrt((ahead**2).sum(axis=1, keepdims=True))
    return np.stack([ahead[:, 1], -ahead[:, 0]], axis=1)


def _turn_rate(plan: np.ndarray, is_circuit: bool) -> np.ndarray:
    """Radians per metre, positive to the left."""
    steps = np.diff(
        np.vstack([plan[-1:], plan, plan[:1]]) if is_circuit else np.vstack([plan[:1], plan, plan[-1:]]), axis=0
    )
    cross = steps[:-1, 1] * steps[1:, 0] - steps[:-1, 0] * steps[1:, 1]
    return _smooth(cross, 5)


def _smooth(values: np.ndarray, reach: int) -> np.ndarray:
    window = np.full(2 * reach + 1, 1.0 / (2 * reach + 1))
    return np.convolve(np.pad(values, reach, mode="wrap"), window, mode="valid")


def _straightest(turn: np.ndarray, count: int) -> list[int]:
    """Where features begin: the straightest stretches, apart from each other and from both ends."""
    need = 2 * FEATURE_M
    bend = np.convolve(np.abs(turn), np.ones(need), mode="valid")
    bend[: RUN_UP_M + 40] = np.inf
    bend[len(bend) - RUN_OUT_M - 40 :] = np.inf
    places: list[int] = []
    for _ in range(count):
        best = int(bend.argmin())
        places.append(best)
        bend[max(0, best - need) : best + need] = np.inf
    return places


def _kicker(span: np.ndarray) -> np.ndarray:
    """A ramp whose slope grows up to its end, after which the road falls back."""
    into = np.clip(span, 0.0, JUMP_RAMP_M)
    rise = JUMP_KICK * into**2 / (2.0 * JUMP_RAMP_M) * 1.6
    return rise * np.clip(1.0 - (span - JUMP_RAMP_M) / JUMP_BACK_M, 0.0, 1.0)
