"""The same cars as each kind of environment that users meet."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode
from torchrl.envs import EnvBase, GymWrapper

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.envs.registration import ENV_ID, register
from tm_torchrl.sim import Starts
from tm_torchrl.world.tracker import Limits

OPTIONS: dict[str, Any] = {
    "track": "oval",
    "starts": Starts(zone=0.5, jitter_m=0.5),
    "limits": Limits(race_s=0.6, no_progress_s=0.3),  # at most 12 steps
}


def single(**options: Any) -> EnvBase:
    return TrackManiaEnv(None, **OPTIONS, **options)


def batched(**options: Any) -> EnvBase:
    return TrackManiaEnv(2, **OPTIONS, **options)


def gym_single(**options: Any) -> EnvBase:
    register()
    return GymWrapper(gymnasium.make(ENV_ID, **OPTIONS, **options), categorical_action_encoding=True)


def gym_vector(*, mode: AutoresetMode = AutoresetMode.DISABLED, **options: Any) -> EnvBase:
    register()
    cars = gymnasium.make_vec(ENV_ID, num_envs=2, autoreset_mode=mode, **OPTIONS, **options)
    return GymWrapper(cars, categorical_action_encoding=True)


FACES = {
    "batched": batched,
    "single": single,
    "gym single": gym_single,
    "gym vector": gym_vector,
    "gym vector, same step": partial(gym_vector, mode=AutoresetMode.SAME_STEP),
}
