"""Statistics of the suite: worked by hand, and what must hold for any numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.grids.scores import (
    areas,
    estimate,
    final_of,
    median_ratio,
    median_to,
    over_environments,
    probability_of_improvement,
    profile,
    runs_of,
)

numbers = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=8)


def curve(scores: list[float], *, algorithm: str = "iqn", seed: int = 0) -> list[dict[str, Any]]:
    return [
        {"algorithm": algorithm, "seed": seed, "frames": 10 * (i + 1), "cpu_s": i + 1.0, "score": score}
        for i, score in enumerate(scores)
    ]


@given(numbers)
def test_profiles_fall(scores: list[float]) -> None:
    found = profile(scores, np.arange(-6.0, 7.0))
    assert found[0] == 1.0 and found[-1] == 0.0 and (np.diff(found) <= 0).all()


def test_probability_by_hand() -> None:
    """First environment: 3 of 4 pairs. Second: one pair of two equal, 1/2; one better, 1. Mean of 3/4 and 3/4."""
    found = probability_of_improvement([[1.0, 4.0], [2.0, 3.0]], [[0.0, 2.0], [2.0]])
    assert found.value == 0.75
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert probability_of_improvement([[1.0] * 5], [[2.0] * 5]).high == 0.0


def test_areas_and_values_that_are_absent() -> None:
    assert final_of([{"score": 1.0, "median_lap_s": None}], "median_lap_s") is None
    assert areas([*curve([0.0, 1.0]), *curve([1.0, 1.0], seed=1)], "iqn") == [0.5, 1.0]


def test_runs_are_kept_apart() -> None:
    rows = [*curve([1.0], seed=1), *curve([2.0]), *curve([3.0], algorithm="fqf")]
    assert {seed: [row["score"] for row in run] for seed, run in runs_of(rows, "iqn").items()} == {0: [2.0], 1: [1.0]}


def test_the_way_to_a_threshold() -> None:
    """Reached at 20 and 10 frames, and never: the median of three is 20; with another never there is none."""
    rows = [*curve([0.0, 1.0]), *curve([1.0, 0.0], seed=1), *curve([0.0, 0.0], seed=2)]
    assert median_to(rows, "iqn", 0.5, "frames") == (20.0, 2, 3)
    assert median_to([*rows, *curve([0.0], seed=3)], "iqn", 0.5, "frames") == (None, 2, 4)


def test_estimates_hold_their_value() -> None:
    assert estimate([1.0, 1.0]).text() == "1.00 [1.00, 1.00]"
    found = over_environments([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0, 99.0]])
    assert found.value == 1.5, "as many runs of each environment"
    assert found.low < found.value < found.high


def test_a_ratio_of_costs_is_of_runs_of_one_seed() -> None:
    slow_hours = {0: 1.0, 1: 1.0, 2: 3.0, 3: 3.0, 4: 3.0}
    half = median_ratio({run: 0.5 * speed for run, speed in slow_hours.items()}, slow_hours)
    assert half is not None and (half.value, half.low, half.high) == (0.5, 0.5, 0.5)
    spread = median_ratio({0: 1.0, 1: 2.0, 2: 3.0}, {0: 1.0, 1: 1.0, 2: 1.0, 9: 99.0})
    assert spread is not None and (spread.value, spread.low, spread.high) == (2.0, 1.0, 3.0)
    assert median_ratio({0: 1.0}, {1: 1.0}) is None
