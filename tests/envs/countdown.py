"""Toy environments whose numbers can be worked out by hand."""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Categorical, Composite, OneHot, Unbounded
from torchrl.envs import EnvBase

NUM_ACTIONS = 3


class Countdown(EnvBase):
    """Environment i of a batch ends after ``lengths[i]`` steps; the reward is the action's number.

    The observation is [steps taken, environment's number], the picture is filled with the steps taken. An environment
    that is stepped after its end goes on counting, and pays 100 for it, so that nobody overlooks it.
    """

    def __init__(self, lengths: tuple[int, ...] = (3,), *, is_one_hot: bool = False, is_batched: bool = True) -> None:
        batch = (len(lengths),) if is_batched else ()
        super().__init__(batch_size=batch)
        self.lengths = torch.tensor(lengths).reshape(batch)
        self.is_one_hot = is_one_hot
        self.taken = torch.zeros(batch, dtype=torch.int64)
        self.observation_spec = Composite(
            observation=Unbounded((*batch, 2)),
            pixels=Bounded(0, 255, shape=(*batch, 1, 6, 6), dtype=torch.uint8),
            shape=batch,
        )
        self.action_spec = (
            OneHot(NUM_ACTIONS, shape=(*batch, NUM_ACTIONS)) if is_one_hot else Categorical(NUM_ACTIONS, shape=batch)
        )
        self.reward_spec = Bounded(0.0, 100.0, shape=(*batch, 1), dtype=torch.float32)
        flag = Binary(shape=(*batch, 1), dtype=torch.bool)
        self.full_done_spec = Composite(done=flag.clone(), terminated=flag.clone(), truncated=flag.clone(), shape=batch)

    def _out(self, **more: torch.Tensor) -> TensorDict:
        number = torch.arange(self.taken.numel()).reshape(self.taken.shape)
        done = (self.taken >= self.lengths).unsqueeze(-1)
        return TensorDict(
            {
                "observation": torch.stack((self.taken, number), -1).float(),
                "pixels": self.taken.to(torch.uint8)[..., None, None, None].expand(*self.batch_size, 1, 6, 6).clone(),
                "done": done,
                "terminated": done.clone(),
                "truncated": torch.zeros_like(done),
                **more,
            },
            batch_size=self.batch_size,
        )

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        chosen = torch.ones_like(self.taken, dtype=torch.bool) if mask is None else mask.view(self.taken.shape)
        self.taken = torch.where(chosen, 0, self.taken)
        return self._out()

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict["action"]
        paid = action.long().argmax(-1) if self.is_one_hot else action
        paid = torch.where(self.taken >= self.lengths, 100, paid)
        self.taken = self.taken + 1
        return self._out(reward=paid.float().unsqueeze(-1))

    def _set_seed(self, seed: int | None) -> None:
        pass
