"""Transformed environments that a saved run continues exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import nn
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.envs.transforms import Compose, Transform

from tm_torchrl.envs.protocols import FollowsFrames, Resumable


def transformed(env: EnvBase, transforms: Sequence[Callable[[], Transform]]) -> EnvBase:
    """The environment behind new transforms; the environment itself if there are none.

    Args:
        env: Any environment.
        transforms: Functions that make TorchRL's or our own transforms, the first one next to the environment.

    Examples:
        >>> from functools import partial
        >>> from torchrl.envs import RewardScaling, StepCounter
        >>> from tm_torchrl.envs.gymnasium_batch import GymnasiumBatch
        >>> transforms = [StepCounter, partial(RewardScaling, 0.0, 0.5)]
        >>> env = transformed(GymnasiumBatch("CartPole-v1", num_envs=2), transforms)
        >>> env.rollout(3)["next", "reward"].unique(), env.rollout(3)["step_count"].max()
        (tensor([0.5000]), tensor(2))
    """
    if not transforms:
        return env
    made = [make() if callable(make) and not isinstance(make, Transform) else make for make in transforms]
    for i, transform in enumerate(made):
        if transform is transforms[i] or not isinstance(transform, Transform):
            raise ValueError(
                f"transforms[{i}]={type(transform).__name__}: must be a function that makes a transform, such as "
                "{_target_: torchrl.envs.transforms.StepCounter, _partial_: true}"
            )
    return (ResumableTransformedEnv if isinstance(env, Resumable) else FollowingTransformedEnv)(env, Compose(*made))


class FollowingTransformedEnv(TransformedEnv):
    """Tells the environment how many frames the whole training has played."""

    def set_frames(self, num_frames: int) -> None:
        """Set the number of frames that have been played."""
        if isinstance(self.base_env, FollowsFrames):
            self.base_env.set_frames(num_frames)


class ResumableTransformedEnv(FollowingTransformedEnv):
    """Saves the environment, the transforms' buffers, and what was observed last."""

    def save(self) -> dict[str, Any]:
        """The state that the future depends on."""
        return {
            "env": self.base_env.save(),
            "buffers": {
                name: buffer.clone()
                for name, buffer in self.transform.named_buffers()
                if not isinstance(buffer, nn.parameter.UninitializedBuffer)
            },
            "seen": self._seen.clone().to_dict(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.base_env.restore(saved["env"])
        for name, value in saved["buffers"].items():
            owner, _, last = name.rpartition(".")
            self.transform.get_submodule(owner)._buffers[last] = value.clone()
        self.__dict__["_seen"] = TensorDict(saved["seen"], batch_size=self.batch_size)

    def present(self) -> TensorDictBase:
        """What was observed last, as a reset returns it."""
        flags = {key: torch.zeros_like(self._seen[key]) for key in self.done_keys}
        return self._seen.clone().update(flags)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        return self._remembered(super()._step(tensordict))

    def _reset(self, tensordict: TensorDictBase | None = None, **options: Any) -> TensorDictBase:
        return self._remembered(super()._reset(tensordict, **options))

    def _remembered(self, seen: TensorDictBase) -> TensorDictBase:
        keys = [*self.observation_spec.keys(True, True), *self.done_keys]
        self.__dict__["_seen"] = seen.select(*keys, strict=False).clone()
        return seen
