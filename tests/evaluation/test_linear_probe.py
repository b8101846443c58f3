"""The linear probe: targets from geometry, and ridge regression on what it can and cannot explain."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tm_torchrl.evaluation.linear_probe import probe_targets, ridge_r2
from tm_torchrl.world.observation import observation_layout

LAYOUT = observation_layout()


def floats(velocity: list[float], points: np.ndarray) -> np.ndarray:
    """Float observations ``[1, F]`` with a velocity, and points ``[40, 2]`` (left, forward) ahead."""
    found = np.zeros((1, LAYOUT.size), np.float32)
    found[:, LAYOUT["velocity"]] = velocity
    ahead = np.zeros((40, 3))
    ahead[:, [0, 2]] = points
    found[:, LAYOUT["zones_ahead"]] = ahead.reshape(-1)
    return found


def test_on_a_straight_road_left_of_its_centre() -> None:
    """The centre is 2 m to the right; 3 and 4 m/s are 5."""
    straight = np.stack([np.full(40, -2.0), 10.0 * np.arange(40)], 1)
    assert probe_targets(floats([3.0, 0.0, 4.0], straight), LAYOUT)[0].tolist() == pytest.approx([5.0, 2.0, 0.0])


def test_a_car_that_is_turned_is_as_far_from_the_centre() -> None:
    """The road leads 30 degrees to the left of where the car looks."""
    along = np.array([math.sin(math.pi / 6), math.cos(math.pi / 6)])
    right = np.array([-along[1], along[0]])
    points = 2.0 * right + 10.0 * np.arange(40)[:, None] * along
    assert probe_targets(floats([0.0, 0.0, 1.0], points), LAYOUT)[0, 1] == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_curve_has_one_over_its_radius(side: float) -> None:
    """A circle of 50 m, to the left or to the right."""
    angle = 0.2 * np.arange(40)
    circle = np.stack([side * 50.0 * (1.0 - np.cos(angle)), 50.0 * np.sin(angle)], 1)
    assert probe_targets(floats([0.0, 0.0, 1.0], circle), LAYOUT)[0, 2] == pytest.approx(side / 50.0, rel=1e-4)


def test_what_is_linear_is_explained_and_noise_is_not() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(3, 400, 20)) * np.arange(1, 21)
    weights = random.normal(size=(20, 1))
    parts = []
    for each in features:
        parts.append((each, np.concatenate([each @ weights + 7.0, random.normal(size=(400, 1))], 1)))
    linear, noise = ridge_r2(*parts)
    assert linear == pytest.approx(1.0, abs=1e-4)
    assert abs(noise) < 0.15


def test_a_strong_penalty_is_chosen_where_features_are_many_and_say_little() -> None:
    """With 200 features and 100 frames a weak penalty fits the noise; the other laps choose a better one."""
    random = np.random.default_rng(1)
    parts = []
    for num in (100, 400, 400):
        features = random.normal(size=(num, 200))
        parts.append((features, features[:, :1] + random.normal(size=(num, 1))))
    (found,) = ridge_r2(*parts)
    fit, _, test = parts
    weights = np.linalg.lstsq(fit[0], fit[1], rcond=None)[0]
    plain = 1.0 - np.square(test[0] @ weights - test[1]).sum() / np.square(test[1] - test[1].mean()).sum()
    assert found > max(plain, 0.0) + 0.05


def test_more_features_than_frames_change_nothing() -> None:
    """The same features ten times are ten times the variance and the same penalty over it: the same regression."""
    random = np.random.default_rng(2)
    parts = []
    for _ in range(3):
        features = random.normal(size=(60, 8))
        parts.append((features, features[:, :2] + random.normal(size=(60, 2))))
    many = [(np.tile(features, 10), targets) for features, targets in parts]
    few = ridge_r2(*[(np.tile(features, 7), targets) for features, targets in parts])  # 56 of 60
    assert ridge_r2(*many).tolist() == pytest.approx(few.tolist(), abs=0.02)


def test_features_that_say_nothing_explain_nothing() -> None:
    constant = (np.ones((50, 3)), np.arange(50.0)[:, None])
    assert ridge_r2(constant, constant, constant).tolist() == pytest.approx([0.0], abs=1e-9)
