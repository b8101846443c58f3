"""The gymnasium environments: gymnasium's own checks, driving, rendering and bad actions."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from tm_torchrl.envs import TrackManiaGymEnv
from tm_torchrl.envs.registration import ENV_ID, register

register()


@pytest.mark.parametrize("options", [{}, {"pixels": True}, {"action_block": 5}], ids=["floats", "pixels", "blocks"])
def test_passes_gymnasiums_own_check(options: dict):
    env = gymnasium.make(ENV_ID, track="oval", render_mode="rgb_array", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env.unwrapped)


def test_one_car_drives():
    env = gymnasium.make(ENV_ID, track="oval")
    observation, info = env.reset(seed=1)
    assert observation.shape == (184,) and observation.dtype == np.float32
    for _ in range(20):
        observation, reward, terminated, truncated, info = env.step(0)
    assert info["race_time_ms"] == 1000
    assert observation[58] > 10, "forward speed"
    assert isinstance(reward, float) and not terminated and not truncated


def test_many_cars_and_reset_by_the_next_step():
    envs = gymnasium.make_vec(ENV_ID, num_envs=3, track="oval")
    assert type(envs.unwrapped).__name__ == "TrackManiaVectorEnv"
    envs.reset(seed=0)
    actions = np.array([0, 3, 0])
    for _ in range(40):
        _, _, _, truncated, info = envs.step(actions)
    assert truncated.tolist() == [False, True, False], "the car that stands is cut short after 2 s"
    observation, reward, _, truncated, info = envs.step(actions)
    assert info["race_time_ms"].tolist() == [2050, 0, 2050]
    assert reward[1] == 0 and not truncated[1]
    assert envs.observation_space.contains(observation)
    envs.step(actions)


def test_render():
    env = gymnasium.make(ENV_ID, track="oval", render_mode="rgb_array")
    env.reset()
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert picture.std() > 5
    with pytest.raises(ValueError, match="render_mode='human'"):
        TrackManiaGymEnv(track="oval", render_mode="human")


def test_bad_actions():
    env = TrackManiaGymEnv(track="oval")
    env.reset()
    with pytest.raises(TypeError, match="action has dtype float64"):
        env.step(0.5)
    with pytest.raises(ValueError, match=r"action has shape \(2,\)"):
        env.step(np.array([0, 1]))
    with pytest.raises(ValueError, match="action holds 12"):
        env.step(12)
