"""Rewards that change during training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from torch import Tensor
from torchrl.data import TensorSpec, Unbounded
from torchrl.envs.transforms import Transform

from tm_torchrl.settings.schedules import make_schedule

Schedule = Callable[[int], float]


class RewardSchedule(Transform):
    """Multiplies the reward by one schedule and adds another: ``reward * scale(frames) + offset(frames)``.

    A schedule is any function of the number of frames. In an environment each copy of the transform counts its own
    frames, one per environment and step. In a replay buffer the reward of each sampled transition is changed, and
    ``num_frames`` stays what it was last set to, since a buffer does not know how far the training is.

    Args:
        scale: Schedule of the factor: a function, a number, or a list such as ``["linear", [0, 1.0], [20_000, 0.1]]``.
        offset: Schedule of the number that is added, in the same form.
        in_keys: Keys of the rewards; in a replay buffer they are read under ``"next"``.

    Examples:
        >>> from tensordict import TensorDict
        >>> fade = RewardSchedule(scale=lambda frames: max(0.0, 1.0 - frames / 1000))
        >>> fade.num_frames = 250
        >>> fade(TensorDict({"next": {"reward": torch.tensor([[2.0]])}}, [1]))["next", "reward"]
        tensor([[1.5000]])
    """

    def __init__(
        self,
        scale: Schedule | float | Sequence[Any] | None = None,
        *,
        offset: Schedule | float | Sequence[Any] | None = None,
        in_keys: Sequence[NestedKey] = ("reward",),
    ) -> None:
        if scale is None and offset is None:
            raise ValueError("scale, offset: at least one of them must be given")
        super().__init__(in_keys=list(in_keys), out_keys=list(in_keys))
        self.scale = _function("scale", scale)
        self.offset = _function("offset", offset)
        self.register_buffer("_num_frames", torch.zeros((), dtype=torch.int64))

    @property
    def num_frames(self) -> int:
        """How many frames have been played."""
        return int(self._num_frames)

    @num_frames.setter
    def num_frames(self, num_frames: int) -> None:
        if num_frames < 0:
            raise ValueError(f"num_frames={num_frames}: must be at least 0")
        self._num_frames.fill_(num_frames)

    def _value(self, name: str, schedule: Schedule) -> float:
        value = float(schedule(self.num_frames))
        if not math.isfinite(value):
            raise ValueError(f"{name}({self.num_frames}) is {value}; a schedule must return finite numbers")
        return value

    def _apply_transform(self, obs: Tensor) -> Tensor:
        reward = obs
        if self.scale is not None:
            reward = reward * self._value("scale", self.scale)
        if self.offset is not None:
            reward = reward + self._value("offset", self.offset)
        return reward

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        next_tensordict = self._call(next_tensordict)
        self._num_frames += next_tensordict.numel()
        return next_tensordict

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Change the rewards of a sampled batch."""
        for key in self.in_keys:
            end = unravel_key(("next", key))
            reward = tensordict.get(end, None)
            if reward is None:
                found = sorted(map(str, tensordict.keys(True, True)))
                raise KeyError(f"RewardSchedule: no {end!r} in the batch, which has {', '.join(found)}")
            tensordict.set(end, self._apply_transform(reward))
        return tensordict

    def transform_reward_spec(self, reward_spec: TensorSpec) -> TensorSpec:
        """Rewards keep their shape but lose their bounds, since schedules change them."""
        for key in self.in_keys:
            old = reward_spec[key]
            dtype = old.dtype if old.dtype.is_floating_point else torch.get_default_dtype()
            reward_spec[key] = Unbounded(old.shape, dtype=dtype, device=old.device)
        return reward_spec


def _function(name: str, schedule: Schedule | float | Sequence[Any] | None) -> Schedule | None:
    return schedule if schedule is None or callable(schedule) else make_schedule(schedule, name=name)
