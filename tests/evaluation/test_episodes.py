"""Episodes and statistics: worked numbers and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensordict.nn import TensorDictModule

from tests.trainers.failing_env import CountingBatch
from tm_torchrl.evaluation import bootstrap_interval, interquartile_mean, play_episodes

POLICY = TensorDictModule(lambda seen: seen.squeeze(-1).long() * 0, in_keys=["observation"], out_keys=["action"])


def test_each_episode_has_ten_steps_of_reward_one() -> None:
    episodes = play_episodes(CountingBatch(3), POLICY, num_episodes=5)
    assert episodes.returns.tolist() == [10.0] * 5
    assert episodes.summary()["length_mean"] == 10.0


def test_episodes_can_be_cut() -> None:
    assert play_episodes(CountingBatch(2), POLICY, num_episodes=2, max_steps=4).returns.tolist() == [4.0, 4.0]


def test_interquartile_mean_of_eight() -> None:
    # The middle half of 1..8 is 3, 4, 5, 6.
    assert interquartile_mean(range(1, 9)) == 4.5
    # Of five values the outer quarter takes the first and a quarter of the second: (0.75*2 + 3 + 0.75*4) / 2.5.
    assert interquartile_mean([1, 2, 3, 4, 100]) == pytest.approx((0.75 * 2 + 3 + 0.75 * 4) / 2.5)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_interquartile_mean_lies_between_the_extremes(values: list[float]) -> None:
    assert min(values) - 1e-6 <= interquartile_mean(values) <= max(values) + 1e-6


def test_the_interval_is_repeatable_and_holds_the_statistic() -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, (10, 3))
    low, high = bootstrap_interval(values, seed=1)
    assert (low, high) == bootstrap_interval(values, seed=1)
    assert low < interquartile_mean(values) < high


@pytest.mark.slow
def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = bootstrap_interval(draws.normal(0.0, 1.0, 30), statistic=np.mean, num_resamples=500)
        inside += low <= 0.0 <= high
    assert 0.88 <= inside / 200 <= 0.98


def test_messages() -> None:
    with pytest.raises(ValueError, match="empty"):
        interquartile_mean([])
    with pytest.raises(ValueError, match="confidence=2"):
        bootstrap_interval([1.0], confidence=2)
    with pytest.raises(ValueError, match="num_episodes=0"):
        play_episodes(CountingBatch(1), POLICY, num_episodes=0)
