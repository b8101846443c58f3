"""Plays several actions one after the other as one step."""

from __future__ import annotations

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import TensorSpec, Unbounded
from torchrl.envs.transforms import Transform

_REST = "_action_block_rest"


class ActionBlock(Transform):
    """Plays a block of actions, sums the rewards, and stops each environment where it is done.

    It is for other environments, since ``TrackManiaEnv`` has ``action_block``. The action ``[*B, ...]`` becomes
    ``[*B, S, ...]``. The step's outcome is that of the last action played. TorchRL's ``MultiAction`` stacks rewards or
    keeps the last one; here they are added up. Transforms inserted before it see every single action, those after it
    one step per block.

    Environments that are done are masked by ``_step``, which ``SerialEnv`` and ``ParallelEnv`` respect. A batched
    environment that does not know this entry plays until the block's end, and the steps after its end are dropped.

    Args:
        num_actions: Length S of a block.
        action_key: Key of the action.

    Examples:
        >>> from torchrl.envs import GymEnv, TransformedEnv
        >>> env = TransformedEnv(GymEnv("CartPole-v1", categorical_action_encoding=True), ActionBlock(5))
        >>> env.rand_step(env.reset())["next", "reward"]  # 1 for each of the 5
        tensor([5.])
    """

    def __init__(self, num_actions: int, *, action_key: NestedKey = "action") -> None:
        if num_actions < 1:
            raise ValueError(f"num_actions={num_actions}: must be at least 1")
        super().__init__(in_keys_inv=[action_key], out_keys_inv=[action_key])
        self.num_actions = num_actions
        self.action_key = action_key

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        if self.parent is None:
            raise RuntimeError("ActionBlock must be part of a TransformedEnv")
        dim = tensordict.ndim
        block: Tensor = tensordict.get(self.action_key)
        if block.shape[dim : dim + 1] != (self.num_actions,):
            expected = (*tensordict.batch_size, self.num_actions, ...)
            raise ValueError(f"{self.action_key!r} has shape {tuple(block.shape)}; expected {expected}")
        first, *rest = block.unbind(dim)
        # It is kept in the tensordict and not in self, so that partial steps select its rows with the others.
        tensordict.set(self.action_key, first)
        return tensordict.set(_REST, torch.stack(rest, dim)) if rest else tensordict

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        rest = tensordict.get(_REST, None)
        if rest is None:
            return next_tensordict
        parent = self.parent
        root = tensordict.exclude(_REST, "_step", "next")
        outcome = next_tensordict
        goes_on = tensordict.get("_step", None)
        is_running = (
            ~self._is_done(outcome) if goes_on is None else goes_on.view(outcome.shape) & ~self._is_done(outcome)
        )
        rewards = {key: outcome.get(key) for key in parent.reward_keys}
        for action in rest.unbind(outcome.ndim):
            if not is_running.any():
                break
            root = parent.step_mdp(root.set("next", outcome)).set(self.action_key, action)
            if not is_running.all():
                root = root.exclude(*self._reshaped_keys()).set("_step", is_running)
            root = parent.step(root)
            played = root.pop("next")
            for key, total in rewards.items():
                mask = is_running.view(*is_running.shape, *(1,) * (total.ndim - is_running.ndim))
                rewards[key] = torch.where(mask, total + played.get(key), total)
            outcome = torch.where(is_running, played.select(*outcome.keys(True, True)), outcome)
            root.pop("_step", None)
            is_running = is_running & ~self._is_done(outcome)
        for key, total in rewards.items():
            outcome.set(key, total)
        return outcome

    def _reshaped_keys(self) -> list[NestedKey]:
        # ParallelEnv copies a skipped row's input to its output, which fails if a transform has made it longer.
        ours, theirs = self.parent.full_observation_spec, self.parent.base_env.full_observation_spec
        names = set(ours.keys(True, True))
        return [key for key in theirs.keys(True, True) if key in names and ours[key].shape != theirs[key].shape]

    def _is_done(self, outcome: TensorDictBase) -> Tensor:
        done: Tensor = outcome.get("done")
        return done.view(outcome.shape)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Always raises: a replay buffer cannot play actions."""
        raise RuntimeError("ActionBlock must be part of a TransformedEnv")

    def transform_reward_spec(self, reward_spec: TensorSpec) -> TensorSpec:
        """Rewards keep their shape but lose their bounds, since they are added up."""
        for key in list(reward_spec.keys(True, True)):
            old = reward_spec[key]
            reward_spec[key] = Unbounded(old.shape, dtype=old.dtype, device=old.device)
        return reward_spec

    def transform_input_spec(self, input_spec: TensorSpec) -> TensorSpec:
        """The action gets a new dimension of size S after the batch."""
        done_keys = self.parent.done_keys
        if not all(isinstance(key, str) for key in done_keys):
            raise ValueError(f"ActionBlock needs one done flag per environment; this one has {done_keys}")
        action_spec = input_spec["full_action_spec"]
        if self.action_key not in action_spec.keys(True, True):
            found = sorted(map(str, action_spec.keys(True, True)))
            raise KeyError(f"ActionBlock: no {self.action_key!r} among the environment's actions {', '.join(found)}")
        dim = len(input_spec.shape)
        single = action_spec[self.action_key]
        shape = (*single.shape[:dim], self.num_actions, *single.shape[dim:])
        action_spec[self.action_key] = single.unsqueeze(dim).expand(shape)
        return input_spec
