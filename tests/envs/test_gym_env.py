"""The gymnasium environments: gymnasium's own checks, parity with its vector environments, bad input."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torchrl.envs import GymWrapper

from tests.envs.faces import OPTIONS
from tm_torchrl.envs import TrackManiaGymEnv, TrackManiaVectorEnv
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


def assert_same(ours: Any, control: Any) -> None:
    """Equal values; infos only where gymnasium's masks say that they are valid."""
    if isinstance(control, tuple):
        for mine, expected in zip(ours, control, strict=True):
            assert_same(mine, expected)
        return
    if not isinstance(control, dict):
        np.testing.assert_array_equal(ours, control)
        return
    assert set(ours) == set(control)
    for key, value in control.items():
        mask = control.get(f"_{key}")
        if mask is None or isinstance(value, dict):
            assert_same(ours[key], value)
        else:
            for car in np.flatnonzero(mask):
                assert_same(ours[key][car], value[car])


@pytest.mark.parametrize("pixels", [False, True], ids=["floats", "pixels"])
@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.name)
def test_many_cars_are_gymnasiums_vector_of_single_cars(mode: AutoresetMode, pixels: bool):
    options = {**OPTIONS, "pixels": pixels}
    ours = gymnasium.make_vec(ENV_ID, num_envs=3, autoreset_mode=mode, **options)
    assert isinstance(ours, TrackManiaVectorEnv)
    control = SyncVectorEnv([partial(TrackManiaGymEnv, **options)] * 3, autoreset_mode=mode)
    assert ours.metadata == control.metadata and ours.autoreset_mode == mode
    rng = np.random.default_rng(0)
    num_ends = 0
    for seed in (7, [5, None, 5], None):
        assert_same(ours.reset(seed=seed), control.reset(seed=seed))
        for _ in range(25):
            actions = rng.integers(0, 12, 3)
            step, expected = ours.step(actions), control.step(actions)
            assert_same(step, expected)
            assert ours.observation_space.contains(step[0])
            done = step[2] | step[3]
            num_ends += done.sum()
            if mode == AutoresetMode.DISABLED and done.any():
                seeds = [1, 2, 3]
                assert_same(
                    ours.reset(seed=seeds, options={"reset_mask": done}),
                    control.reset(seed=seeds, options={"reset_mask": done}),
                )
    assert num_ends >= 9


def test_torchrl_takes_the_modes_that_it_knows():
    """``tests/envs/test_contract.py`` drives with SAME_STEP and DISABLED."""
    with pytest.raises(RuntimeError, match="autoreset_mode=AutoresetMode"):
        GymWrapper(gymnasium.make_vec(ENV_ID, num_envs=2, track="oval"))


def test_a_copy_of_bare_environments_continues():
    for env, action in ((TrackManiaGymEnv(**OPTIONS), 0), (TrackManiaVectorEnv(2, **OPTIONS), np.array([0, 1]))):
        env.reset(seed=1)
        env.step(action)
        same = copy.deepcopy(env)
        for _ in range(10):
            assert_same(same.step(action), env.step(action))


def test_render():
    env = gymnasium.make(ENV_ID, track="oval", render_mode="rgb_array")
    env.reset()
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert picture.std() > 5
    with pytest.raises(ValueError, match="render_mode='human'"):
        TrackManiaGymEnv(track="oval", render_mode="human")


def test_bad_input():
    env = TrackManiaGymEnv(track="oval")
    env.reset()
    with pytest.raises(TypeError, match="action has dtype float64"):
        env.step(0.5)
    with pytest.raises(ValueError, match=r"action has shape \(2,\)"):
        env.step(np.array([0, 1]))
    with pytest.raises(ValueError, match="action holds 12"):
        env.step(12)
    cars = TrackManiaVectorEnv(2, autoreset_mode="Disabled", track="oval", limits=OPTIONS["limits"])
    with pytest.raises(ValueError, match="seed has 3 entries"):
        cars.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match=r"reset_mask is bool \(3,\)"):
        cars.reset(options={"reset_mask": np.ones(3, bool)})
    for _ in range(6):  # 0.3 s without progress
        cars.step(np.array([3, 3]))
    with pytest.raises(RuntimeError, match=r"cars \[0, 1\] are done"):
        cars.step(np.array([3, 3]))
