"""Environments that worker processes can import: they count, and fail when they are told to."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.data import Binary, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from tm_torchrl.modules import EpsilonGreedy


class CountingBatch(EnvBase):
    """Each lane counts its steps; an episode has ten. A file's name in ``fails`` says how the first life ends.

    Args:
        num_envs: lanes.
        fails: folder with a file ``raise`` or ``hang``, removed when it comes true at step 12; as long as it has a
            file ``wait``, no step ends.
    """

    batch_locked = True

    def __init__(self, num_envs: int = 2, fails: Path | None = None) -> None:
        super().__init__(batch_size=(num_envs,))
        self.fails = fails
        self.num_steps = 0
        self.count = torch.zeros(num_envs, 1)
        self.observation_spec = Composite(observation=Unbounded((num_envs, 1)), shape=(num_envs,))
        self.action_spec = Categorical(2, shape=(num_envs,))
        self.reward_spec = Unbounded((num_envs, 1))
        flag = Binary(shape=(num_envs, 1), dtype=torch.bool)
        self.full_done_spec = Composite(
            done=flag.clone(), terminated=flag.clone(), truncated=flag.clone(), shape=(num_envs,)
        )

    def _reset(self, tensordict: TensorDictBase | None = None, **options: object) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        self.count = torch.zeros_like(self.count) if mask is None else torch.where(mask, 0.0, self.count)
        return self.present()

    def present(self) -> TensorDictBase:
        """As a reset returns it."""
        no = torch.zeros_like(self.count, dtype=torch.bool)
        flags = {"done": no, "terminated": no.clone(), "truncated": no.clone()}
        return TensorDict({"observation": self.count.clone(), **flags}, batch_size=self.batch_size)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.num_steps += 1
        while self.fails is not None and (self.fails / "wait").exists():
            time.sleep(0.01)
        if self.fails is not None and self.num_steps == 12:
            for name in ("raise", "hang"):
                if (self.fails / name).exists():
                    (self.fails / name).unlink()
                    fail(name)
        self.count = self.count + 1
        done = self.count >= 10
        flags = {"done": done, "terminated": done.clone(), "truncated": torch.zeros_like(done)}
        seen = {"observation": self.count.clone(), "reward": torch.ones_like(self.count)}
        return TensorDict({**seen, **flags}, batch_size=self.batch_size)

    def _set_seed(self, seed: int | None) -> None:
        pass

    def save(self) -> dict[str, torch.Tensor]:
        """All there is."""
        return {"count": self.count.clone()}

    def restore(self, saved: dict[str, torch.Tensor]) -> None:
        """Back to a saved state."""
        self.count = saved["count"].clone()


def make_policy(epsilon: float = 0.5) -> TensorDictSequential:
    """Values from a linear layer of the count, the better action, and random ones that are held for a while."""
    layer = torch.nn.Linear(1, 2)
    best = TensorDictModule(lambda values: values.argmax(-1), in_keys=["action_value"], out_keys=["action"])
    values = TensorDictModule(layer, in_keys=["observation"], out_keys=["action_value"])
    return TensorDictSequential(values, best, EpsilonGreedy(epsilon, mean_steps=3.0))


def fail(how: str) -> None:
    """Raise, or never come back."""
    if how == "raise":
        raise ArithmeticError("the engine exploded")
    while True:
        time.sleep(0.01)
