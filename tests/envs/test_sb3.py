"""Cars in stable-baselines3."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from tests.envs.faces import OPTIONS
from tm_torchrl.envs import TrackManiaGymEnv
from tm_torchrl.envs.sb3 import TrackManiaVecEnv


@pytest.mark.parametrize("pixels", [False, True], ids=["floats", "pixels"])
def test_many_cars_are_a_vector_of_single_cars(pixels: bool):
    """``DummyVecEnv``, the library's own, says what each step returns."""
    options = {**OPTIONS, "pixels": pixels}
    ours = TrackManiaVecEnv(3, **options)
    control = DummyVecEnv([lambda: TrackManiaGymEnv(**options)] * 3)
    assert ours.observation_space == control.observation_space and ours.action_space == control.action_space
    assert ours.seed(5) == control.seed(5)
    np.testing.assert_equal(ours.reset(), control.reset())
    rng = np.random.default_rng(0)
    num_ends = 0
    for _ in range(30):
        actions = rng.integers(0, 12, 3)
        step = ours.step(actions)
        np.testing.assert_equal(step, control.step(actions))
        np.testing.assert_equal(ours.reset_infos, control.reset_infos)
        num_ends += step[2].sum()
    assert num_ends >= 6


def test_it_answers_what_the_library_asks():
    env = TrackManiaVecEnv(3, render_mode="rgb_array", **OPTIONS)
    assert env.get_attr("render_mode") == ["rgb_array"] * 3 and not env.has_attr("laps")
    env.set_attr("laps", 2)
    assert env.get_attr("laps", [0, 2]) == [2, 2]
    assert env.env_is_wrapped(VecMonitor) == [False] * 3
    assert env.env_method("reset", seed=3, indices=1)[0][0].shape == (3, 184)
    assert env.render().shape == (2 * 270, 2 * 480, 3), "three pictures and an empty one"


def test_ppo_learns_from_it():
    monitored = VecMonitor(TrackManiaVecEnv(4, **OPTIONS), info_keywords=("is_finished",))
    model = PPO("MlpPolicy", monitored, n_steps=32, batch_size=64, n_epochs=1, seed=0)
    model.learn(256)
    assert len(model.ep_info_buffer) >= 8 and {"r", "l", "is_finished"} <= set(model.ep_info_buffer[0])


def test_one_car_passes_the_librarys_check():
    check_env(TrackManiaGymEnv(**OPTIONS))
