"""Environments whose episodes come in groups, which may share their start."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import Unbounded
from torchrl.envs import EnvBase

from tm_torchrl.envs.protocols import FollowsFrames, Resumable, SeedsCopies

GROUP = "group"  # the key that says where each state belongs


def grouped(
    env: EnvBase,
    *,
    group_size: int,
    segment_steps: int | None = None,
    shares_starts: bool = True,
    first: int = 0,
    stride: int = 1,
    seed: int = 0,
) -> EnvBase:
    """The environment with episodes in groups: each ``group_size`` episodes that begin one after the other.

    Whichever copy is free takes the next place in the group, so none waits for the others. Copies that share a start
    are reset with equal seeds: simulator and gymnasium draw a start from the seed alone, so it is the same to the last
    bit, and so is all chance after it. States get the key ``group``, int64 ``[N, 2]``: the number of the group, and the
    steps since the start.

    Args:
        env: An environment; to share starts its copies must take seeds of their own.
        group_size: Episodes in a group.
        segment_steps: An episode is truncated after so many steps; ``None`` for its own end.
        shares_starts: Whether the episodes of a group begin in the same state.
        first: The number of the first group.
        stride: From one group's number to the next, so that several workers share one numbering.
        seed: Added to the group's number it is the seed of a start.

    Examples:
        >>> from tm_torchrl.envs.gymnasium_batch import GymnasiumBatch
        >>> env = grouped(GymnasiumBatch("CartPole-v1", num_envs=4), group_size=2)
        >>> state = env.reset()
        >>> state["group"][:, 0], state["observation"][0].equal(state["observation"][1])
        (tensor([0, 0, 1, 1]), True)
    """
    kind = ResumableGroupedEnv if isinstance(env, Resumable) else GroupedEnv
    return kind(
        env,
        group_size=group_size,
        segment_steps=segment_steps,
        shares_starts=shares_starts,
        first=first,
        stride=stride,
        seed=seed,
    )


class GroupedEnv(EnvBase):
    """What ``grouped`` makes, with its arguments."""

    batch_locked = True

    def __init__(
        self,
        env: EnvBase,
        *,
        group_size: int,
        segment_steps: int | None,
        shares_starts: bool,
        first: int,
        stride: int,
        seed: int,
    ) -> None:
        super().__init__(device=env.device, batch_size=env.batch_size)
        self.env = env
        self.group_size, self.segment_steps = group_size, segment_steps
        self._first, self._stride, self._seed = first, stride, seed
        self._seeded: SeedsCopies | None = None
        if shares_starts:
            base = getattr(env, "base_env", env)
            if not isinstance(base, SeedsCopies):
                raise ValueError(f"env={type(base).__name__}: has no seed_copies, so its episodes cannot share starts")
            self._seeded = base
        self._num_begun = 0  # episodes
        self._place = torch.zeros(*env.batch_size, 2, dtype=torch.int64, device=env.device)  # group, steps
        self.__dict__["_input_spec"] = env.input_spec.clone()
        self.__dict__["_output_spec"] = env.output_spec.clone()
        self.observation_spec[GROUP] = Unbounded(self._place.shape, dtype=torch.int64, device=env.device)

    def _reset(self, tensordict: TensorDictBase | None = None, **options: Any) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        num = len(self._place)
        lanes = range(num) if mask is None else mask.view(-1).nonzero().flatten().tolist()
        seeds: list[int | None] = [None] * num
        for lane in lanes:
            number = self._first + self._stride * (self._num_begun // self.group_size)
            self._num_begun += 1
            self._place[lane, 0], self._place[lane, 1] = number, 0
            seeds[lane] = self._seed + number
        if self._seeded is not None:
            self._seeded.seed_copies(seeds)
        return self._placed(self.env._reset(tensordict, **options))

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        after = self.env._step(tensordict)
        self._place[:, 1] += 1
        if self.segment_steps is not None:
            is_over = (self._place[:, 1:] >= self.segment_steps).view_as(after["done"])
            after["truncated"] = after["truncated"] | (is_over & ~after["terminated"])
            after["done"] = after["done"] | is_over
        return self._placed(after)

    def _placed(self, tensordict: TensorDictBase) -> TensorDictBase:
        return tensordict.set(GROUP, self._place.clone())

    def _set_seed(self, seed: int | None) -> None:
        self.env.set_seed(seed)

    def set_frames(self, num_frames: int) -> None:
        """Set the number of frames that have been played."""
        if isinstance(self.env, FollowsFrames):
            self.env.set_frames(num_frames)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the environment."""
        self.env.close(raise_if_closed=raise_if_closed)
        super().close(raise_if_closed=raise_if_closed)


class ResumableGroupedEnv(GroupedEnv):
    """Saves where its episodes are, too."""

    env: Any

    def save(self) -> dict[str, Any]:
        """The state that the future depends on."""
        return {"env": self.env.save(), "num_begun": self._num_begun, "place": self._place.clone()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.env.restore(saved["env"])
        self._num_begun = saved["num_begun"]
        self._place.copy_(saved["place"])

    def present(self) -> TensorDictBase:
        """What was observed last, as a reset returns it."""
        return self._placed(self.env.present())
