"""``TrackManiaVecEnv``: many cars in one process for stable-baselines3."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from tm_torchrl.envs.gym_env import METADATA, TrackManiaVectorEnv
from tm_torchrl.lazy import extras_named

with extras_named():
    from stable_baselines3.common.vec_env import VecEnv

Indices = None | int | Iterable[int]


class TrackManiaVecEnv(VecEnv):
    """Many cars as an environment of stable-baselines3; 16 or more cost hardly more than one.

    Infos have ``race_time_ms``, ``checkpoint_times_ms``, ``is_finished`` and ``end_cause``, where an episode ends also
    ``terminal_observation`` and ``TimeLimit.truncated``. ``VecMonitor(env, info_keywords=("is_finished",))`` logs them.

    Args:
        num_envs: Number of cars.
        cars: Arguments of :class:`TrackManiaVectorEnv`.
    """

    def __init__(self, num_envs: int = 1, **cars: Any) -> None:
        self.cars = TrackManiaVectorEnv(num_envs, autoreset_mode=AutoresetMode.DISABLED, **cars)
        super().__init__(num_envs, self.cars.single_observation_space, self.cars.single_action_space)
        self.metadata = METADATA

    def reset(self) -> Any:
        """Begin new episodes, with the seeds that ``seed`` has set."""
        observation, infos = self.cars.reset(seed=self._seeds)
        self.reset_infos = _rows(infos)
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Set the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Play 50 ms; cars that are done begin a new episode."""
        observation, reward, terminated, truncated, columns = self.cars.step(self._actions)
        done = terminated | truncated
        infos = _rows(columns)
        for car, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(truncated[car])
        if done.any():
            last = observation
            observation, columns = self.cars.reset(options={"reset_mask": done})
            fresh = _rows(columns)
            for car in np.flatnonzero(done).tolist():
                infos[car]["terminal_observation"] = (
                    {key: x[car] for key, x in last.items()} if isinstance(last, dict) else last[car]
                )
                self.reset_infos[car] = fresh[car]
        return observation, reward, done, infos

    def close(self) -> None:
        """Nothing to do: the cars are memory of this process."""

    def get_images(self) -> Any:
        """A picture from behind each car, with ``render_mode="rgb_array"``."""
        return self.cars.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of the cars' environment, once for each of the cars."""
        return [getattr(self.cars, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the cars' environment, which all cars share."""
        setattr(self.cars, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Indices = None, **options: Any) -> list[Any]:
        """Call a method of the cars' environment once; each of the cars gets what it returns."""
        returned = getattr(self.cars, method_name)(*args, **options)
        return [returned for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """No car is wrapped."""
        return [False for _ in self._get_indices(indices)]


def _rows(infos: dict[str, Any]) -> list[dict[str, Any]]:
    """One dict per car, without gymnasium's masks."""
    keys = [key for key in infos if not key.startswith("_")]
    return [dict(zip(keys, values, strict=True)) for values in zip(*(infos[key] for key in keys), strict=True)]
