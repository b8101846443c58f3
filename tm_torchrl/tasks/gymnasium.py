"""Gymnasium tasks with discrete actions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from tensordict import NestedKey
from tensordict.nn import TensorDictModuleBase
from torchrl.data import Categorical
from torchrl.envs import EnvBase
from torchrl.envs.transforms import Transform

from tm_torchrl.envs.gymnasium_batch import GymnasiumBatch
from tm_torchrl.envs.transformed import transformed
from tm_torchrl.evaluation import play_episodes
from tm_torchrl.modules import Normalize
from tm_torchrl.tasks.task import Row, TaskDefaults


@dataclass
class GymnasiumTask(TaskDefaults):
    """Any gymnasium task with discrete actions.

    Args:
        name: The task's id, such as ``CartPole-v1``.
        num_envs: Copies of all workers together.
        options: Arguments of ``gymnasium.make``.
        evaluation_options: Additional arguments in evaluation.
        mean: Mean of each float, which the network's first layer subtracts.
        scale: Scale of each float, by which that layer divides.
        floats: Numbers of the floats that the network sees, such as ``[0, 2]``, the positions of CartPole without its
            velocities; ``None`` for all.
        transforms: Functions that make the transforms of the environment, in training and in evaluation.

    Examples:
        >>> GymnasiumTask("CartPole-v1").network_arguments()["num_actions"]
        2
    """

    name: str
    num_envs: int = 8
    options: Mapping[str, Any] | None = None
    evaluation_options: Mapping[str, Any] | None = None
    mean: Sequence[float] | None = None
    scale: Sequence[float] | None = None
    floats: Sequence[int] | None = None
    transforms: Sequence[Callable[[], Transform]] = ()

    @property
    def label(self) -> str:
        """The id's last part."""
        return self.name.split("/")[-1].split(":")[-1]

    @cached_property
    def _specs(self) -> tuple[str, torch.Size, Categorical]:
        """The key of the observation, its shape, and the spec of the action of one environment."""
        with contextlib.closing(self.make_env(num_envs=1)) as env:
            key = "pixels" if "pixels" in env.observation_spec else "observation"
            return key, env.observation_spec[key].shape[1:], env.action_spec[0]

    @property
    def in_keys(self) -> list[NestedKey]:
        """``pixels`` for a task with images, otherwise ``observation``."""
        return [self._specs[0]]

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """An environment whose copies are seeded by their numbers."""
        env = GymnasiumBatch(
            self.name, num_envs=num_envs, options=self.options, seed=seed * 10_000 + first, device=device
        )
        return transformed(env, self.transforms)

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """An environment of ``num_envs`` copies."""
        return self.make_env(num_envs=num_envs, seed=1)

    def network_arguments(self) -> dict[str, Any]:
        """Sizes, and the constants ``mean`` and ``scale``."""
        key, shape, action = self._specs
        is_image, num_inputs = key == "pixels", shape[-1]
        normalize = None
        is_changed = any(each is not None for each in (self.mean, self.scale, self.floats))
        if is_image and is_changed:
            raise ValueError("mean, scale, floats: are for floats, but this task has images; leave them null")
        if is_changed:
            mean = [0.0] * num_inputs if self.mean is None else list(self.mean)
            scale = [1.0] * num_inputs if self.scale is None else list(self.scale)
            normalize = Normalize(mean, scale, columns=self._columns(num_inputs))
        return {
            "num_inputs": None if is_image else num_inputs,
            "num_actions": int(action.space.n),
            "num_slots": int(action.shape[0]) if action.ndim else None,
            "normalize": normalize,
            "image_shape": tuple(shape) if is_image else None,
        }

    def _columns(self, num_inputs: int) -> list[int] | None:
        if self.floats is None:
            return None
        known = set(range(num_inputs))
        if not isinstance(self.floats, Sequence) or not self.floats or not set(self.floats) <= known:
            raise ValueError(f"floats={self.floats}: must be a list of numbers from 0 to {num_inputs - 1}, or null")
        return list(self.floats)

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """Play ``num`` complete episodes; the row summarises them."""
        options = {**(self.options or {}), **(self.evaluation_options or {})}
        env = GymnasiumBatch(self.name, num_envs=num, options=options, seed=(seed + 1_000) * 10_000)
        env = transformed(env, self.transforms)
        try:
            episodes = play_episodes(env, policy, num_episodes=num)
        finally:
            env.close()
        return [{"task": self.label, **episodes.summary(), "returns": episodes.returns.tolist()}]

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        """The mean return, then the lowest."""
        return rows[0]["return_mean"], rows[0]["return_min"]
