"""Schedules: worked numbers, order, messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm_torchrl.settings.schedules import Exponential, Linear, Staircase, make_schedule

POINTS = [(100, 1.0), (300, 0.25)]


@pytest.mark.parametrize(
    ("kind", "middle"),
    [(Linear, 0.625), (Exponential, 0.5), (Staircase, 1.0)],  # (1 + 0.25) / 2; sqrt(1 * 0.25); the last point's
)
def test_values_at_before_between_and_after_the_points(kind: type, middle: float) -> None:
    schedule = kind(POINTS)
    assert [schedule(frames) for frames in (0, 100, 200, 300, 10**9)] == pytest.approx([1.0, 1.0, middle, 0.25, 0.25])


@pytest.mark.parametrize("kind", [Linear, Exponential, Staircase])
def test_speed_stretches_the_frames(kind: type) -> None:
    slow, fast = kind(POINTS, speed=8.0), kind(POINTS)
    assert [slow(8 * frames) for frames in (50, 150, 299, 300)] == pytest.approx(
        [fast(frames) for frames in (50, 150, 299, 300)]
    )


@given(st.integers(0, 500), st.integers(0, 500))
def test_falling_points_make_a_falling_schedule(one: int, two: int) -> None:
    for kind in (Linear, Exponential, Staircase):
        schedule = kind(POINTS)
        assert schedule(min(one, two)) >= schedule(max(one, two))


def test_a_number_is_constant() -> None:
    assert make_schedule(0.5, name="x")(123) == 0.5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("abc", "epsilon='abc': must be a number or a schedule"),
        (["liner", [0, 1]], "epsilon: no schedule 'liner'; did you mean linear"),
        (["linear", [0, 1], [0, 2]], "frames must increase"),
        (["exponential", [0, 0.0]], "positive values"),
        (["linear"], "at least one point"),
        (["linear", 5], "epsilon="),
        (True, "epsilon=True"),
        (["linear", [0, float("nan")]], "nan is not finite"),
    ],
)
def test_messages(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"^epsilon") as caught:
        make_schedule(value, name="epsilon")  # type: ignore[arg-type]
    assert message in str(caught.value)
