"""Episodes and statistics: examples computed by hand, and properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torchrl.envs import GymEnv

from tests.collectors.failing_env import CountingBatch
from tm_torchrl.evaluation import bootstrap_interval, interquartile_mean, play_episodes

POLICY = TensorDictModule(lambda seen: seen.squeeze(-1).long() * 0, in_keys=["observation"], out_keys=["action"])


def test_each_episode_has_ten_steps_of_reward_one() -> None:
    episodes = play_episodes(CountingBatch(3), POLICY, num_episodes=5)
    assert episodes.returns.tolist() == [10.0] * 5
    assert episodes.summary()["length_mean"] == 10.0


class Lanes(CountingBatch):
    """Lane i's episodes have 2 * (i + 1) steps; the reward of each step is the lane's number plus one."""

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        found = super()._step(tensordict)
        number = torch.arange(1.0, self.batch_size[0] + 1).unsqueeze(-1)
        done = self.count >= 2 * number
        return found.update({"reward": number, "done": done, "terminated": done.clone()})


def test_only_the_first_episode_of_each_lane_counts() -> None:
    """Lane 0 plays three episodes while lane 2 plays one; each lane is one return: 1 * 2, 2 * 4, 3 * 6."""
    episodes = play_episodes(Lanes(3), POLICY, num_episodes=4)
    assert episodes.returns.tolist() == [2.0, 8.0, 18.0, 2.0]
    assert episodes.lengths.tolist() == [2, 4, 6, 2]
    assert episodes.summary()["return_min"] == 2.0
    assert episodes.summary()["return_mean"] == 30 / 4


def test_a_single_gym_environment_plays_too() -> None:
    env = GymEnv("CartPole-v1", categorical_action_encoding=True)
    env.set_seed(0)
    push_right = TensorDictModule(
        lambda seen: torch.ones((), dtype=torch.int64), in_keys=["observation"], out_keys=["action"]
    )
    episodes = play_episodes(env, push_right, num_episodes=3)
    assert (episodes.returns == episodes.lengths).all()
    assert all(8 <= length <= 11 for length in episodes.lengths)  # always right: the pole falls within 8 to 11 steps


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


def test_the_interval_of_two_values_is_that_of_the_three_outcomes() -> None:
    # Two draws from 0 and 1: the mean is 0, 0.5, 1 with chances 1/4, 1/2, 1/4.
    assert bootstrap_interval([0.0, 1.0], statistic=np.mean) == (0.0, 1.0)  # quantiles 0.025 and 0.975
    assert bootstrap_interval([0.0, 1.0], statistic=np.mean, confidence=0.4) == (0.5, 0.5)  # 0.3 and 0.7
    assert bootstrap_interval([0.0, 1.0], statistic=np.mean, confidence=0.4, seed=5) == (0.5, 0.5)


def test_runs_are_drawn_for_each_task_apart() -> None:
    # Each task's runs agree, so nothing varies; drawn over all six scores, the mean would.
    assert bootstrap_interval([[0.0, 10.0, 50.0], [0.0, 10.0, 50.0]], statistic=np.mean) == (20.0, 20.0)
    # Task 0 varies alone: its half of the mean takes the three outcomes 0, 0.25, 0.5.
    low, high = bootstrap_interval([[0.0, 0.0], [1.0, 0.0]], statistic=np.mean)
    assert (low, high) == (0.0, 0.5)


@pytest.mark.slow
def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = bootstrap_interval(draws.normal(0.0, 1.0, 30), statistic=np.mean, num_resamples=500)
        inside += low <= 0.0 <= high
    assert 0.88 <= inside / 200 <= 0.98


def test_messages() -> None:
    with pytest.raises(ValueError, match="values"):
        interquartile_mean([])
    with pytest.raises(ValueError, match="confidence=2"):
        bootstrap_interval([1.0], confidence=2)
    with pytest.raises(ValueError, match="num_resamples=0"):
        bootstrap_interval([1.0], num_resamples=0)
    with pytest.raises(ValueError, match="num_episodes=0"):
        play_episodes(CountingBatch(1), POLICY, num_episodes=0)
