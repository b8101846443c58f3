"""The targets of quantile losses: greedy, double, soft, Munchausen.

Each is a TorchRL value estimator, chosen with ``loss.make_value_estimator("munchausen", gamma=0.99)``. All bootstrap
from the target network unless the next state is ``terminated``; a ``truncated`` episode bootstraps. With n-step
returns the reward is the sum over ``steps_to_next_obs`` steps (1 where the entry is absent), and the bootstrap is
discounted by gamma to the power of their number. Actions that are False in the next state's ``action_mask``, if there
is one, are never chosen.

Shapes: B batch, M target fractions, S slots of an action block, A actions; ``...`` is nothing, or the slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal, NamedTuple

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from torch import Tensor
from torchrl.objectives.utils import register_value_estimator
from torchrl.objectives.value import ValueEstimatorBase

from tm_torchrl.modules.quantiles.network import Quantiles
from tm_torchrl.objectives.actions import action_index, values_of
from tm_torchrl.objectives.functional import log_policy, munchausen_bonus, soft_value
from tm_torchrl.objectives.network_pass import NetworkPass

LOG_OF_ZERO = -1e3  # the exponential is 0, but 0 times it is not NaN


class QuantileEstimators(Enum):
    """The names under which the estimators are registered with TorchRL."""

    GREEDY = auto()
    DOUBLE = auto()
    SOFT = auto()
    MUNCHAUSEN = auto()


class Given(NamedTuple):
    """What an estimator computes the target of a batch from."""

    batch: TensorDictBase  # [*B]
    target_params: TensorDictBase
    params: TensorDictBase | None = None  # of the online network
    online: Quantiles | None = None  # of the online network, for the states
    is_init_key: NestedKey | None = None  # of a recurrent network

    @property
    def next_states(self) -> TensorDictBase:
        """The observations of the next states, among other entries.

        Where a sequence of states starts, so does that of the next states. TorchRL's ``InitTracker`` and
        ``SliceSampler`` mark the first only.
        """
        found: TensorDictBase = self.batch.get("next")
        if self.is_init_key is None:
            return found
        is_init, is_next_init = self.batch.get(self.is_init_key), found.get(self.is_init_key, None)
        return found.copy().set(self.is_init_key, is_init if is_next_init is None else is_init | is_next_init)


class QuantileEstimator(ValueEstimatorBase):
    """Reward plus the discounted samples of the next state's value.

    Args:
        evaluate: Evaluates the network; a loss has it as an attribute.
        num_fractions: M.
        gamma: The discount of one step, kept as a tensor buffer that can be changed in place.
        is_one_hot: Whether actions are one-hot.
        device: The device of the buffers.
    """

    @dataclass
    class _AcceptedKeys:
        advantage: NestedKey = "advantage"
        value_target: NestedKey = "value_target"
        value: NestedKey = "state_value"
        reward: NestedKey = "reward"
        done: NestedKey = "done"
        terminated: NestedKey = "terminated"
        steps_to_next_obs: NestedKey = "steps_to_next_obs"
        sample_log_prob: NestedKey = "sample_log_prob"
        action: NestedKey = "action"
        action_mask: NestedKey = "action_mask"

    default_keys = _AcceptedKeys
    gamma: Tensor

    def __init__(
        self,
        *,
        evaluate: NetworkPass,
        num_fractions: int,
        gamma: float = 0.99,
        is_one_hot: bool = False,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(value_network=None, device=device)  # it is in evaluate
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma={gamma}: must be in [0, 1]")
        self.evaluate = evaluate
        self.num_fractions = num_fractions
        self.is_one_hot = is_one_hot
        self.register_buffer("gamma", torch.tensor(float(gamma), device=device))

    @classmethod
    def for_loss(cls, loss_module: Any, **hyperparams: Any) -> QuantileEstimator:
        """The estimator for a loss; called by TorchRL's registry."""
        return cls(
            evaluate=loss_module.evaluate,
            num_fractions=loss_module.num_target_fractions,
            is_one_hot=loss_module.is_one_hot,
            **hyperparams,
        )

    @property
    def in_keys(self) -> list[NestedKey]:
        """The keys of observations, action and outcome."""
        keys, outcome = self.evaluate.state_keys, ("reward", "done", "terminated")
        next_keys = [getattr(self.tensor_keys, name) for name in outcome] + keys
        return [*keys, self.tensor_keys.action, *(unravel_key(("next", key)) for key in next_keys)]

    @property
    def out_keys(self) -> list[NestedKey]:
        """The key of the samples of the target."""
        return [self.tensor_keys.value_target]

    def forward(
        self,
        tensordict: TensorDictBase,
        *,
        params: TensorDictBase | None = None,
        target_params: TensorDictBase | None = None,
    ) -> TensorDictBase:
        """Write ``value_target`` ``[*B, M]``."""
        target_BM = self.value_estimate(tensordict, target_params, params=params)
        return tensordict.set(self.tensor_keys.value_target, target_BM.reshape(*tensordict.batch_size, -1))

    @torch.no_grad()
    def value_estimate(
        self,
        tensordict: TensorDictBase,
        target_params: TensorDictBase | None = None,
        next_value: Tensor | None = None,
        *,
        params: TensorDictBase | None = None,
        online: Quantiles | None = None,
    ) -> Tensor:
        """Samples ``[B, M]`` of the target for a batch ``[*B]``, flattened.

        Args:
            tensordict: Transitions.
            target_params: The target network's parameters.
            next_value: Samples ``[B, M]`` of the next state's value, if they are known.
            params: The online network's parameters, for estimators that choose actions with it.
            online: The online network's quantiles of the states, for estimators that use them.
        """
        keys, shape = self.tensor_keys, torch.Size([tensordict.numel()])
        reward_B = tensordict.get(("next", keys.reward)).reshape(shape)
        is_terminated_B = tensordict.get(("next", keys.terminated)).reshape(shape)
        steps = tensordict.get(keys.steps_to_next_obs, None)
        discount = self.gamma if steps is None else self.gamma ** steps.reshape(shape)
        discount_B = discount * ~is_terminated_B
        bonus_B: Tensor | None = None
        if next_value is None:
            given = Given(tensordict, target_params, params, online, self.evaluate.is_init_key)
            next_value, bonus_B = self.next_value(given)
        if bonus_B is not None:
            reward_B = reward_B + bonus_B
        return reward_B.unsqueeze(-1) + discount_B.unsqueeze(-1) * next_value

    def next_value(self, given: Given) -> tuple[Tensor, Tensor | None]:
        """Samples ``[B, M]`` of the next state's value, and a bonus ``[B]`` for the reward or ``None``."""
        raise TypeError(f"{type(self).__name__} must define next_value(given)")

    def mask(self, states: TensorDictBase, like: Tensor) -> Tensor | None:
        """Which actions the states allow, in the shape of their values ``[B, ..., A]``; ``None`` for all.

        A state that allows none, such as the last of an episode, counts as one that allows all.
        """
        mask = states.get(self.tensor_keys.action_mask, None)
        if mask is None:
            return None
        mask = mask.reshape(like.shape)
        return mask | ~mask.any(-1, keepdim=True)

    def best_action(self, quantiles: Quantiles, states: TensorDictBase) -> Tensor:
        """The greedy actions ``[B, ...]``."""
        mean = quantiles.mean()
        mask = self.mask(states, mean)
        return (mean if mask is None else mean.masked_fill(~mask, -torch.inf)).argmax(-1)


@register_value_estimator(QuantileEstimators.GREEDY, default_kwargs={"gamma": 0.99})
class GreedyEstimator(QuantileEstimator):
    """The target network's quantiles of the action that it prefers (DQN, and IQN in the paper)."""

    def next_value(self, given: Given) -> tuple[Tensor, None]:
        """One pass of the target network over the next states."""
        states = given.next_states
        quantiles = self.evaluate(given.target_params, states, self.num_fractions)
        return values_of(quantiles.values, self.best_action(quantiles, states)), None


@register_value_estimator(QuantileEstimators.DOUBLE, default_kwargs={"gamma": 0.99})
class DoubleEstimator(QuantileEstimator):
    """The target network's quantiles of the action that the online network prefers (van Hasselt et al. 2016)."""

    def next_value(self, given: Given) -> tuple[Tensor, None]:
        """One pass of each network over the next states."""
        if given.params is None:
            raise ValueError("params=None: must be the online network's parameters, which choose the next action")
        states = given.next_states
        action = self.best_action(self.evaluate(given.params, states, self.num_fractions), states)
        return values_of(self.evaluate(given.target_params, states, self.num_fractions).values, action), None


@register_value_estimator(QuantileEstimators.SOFT, default_kwargs={"gamma": 0.99, "temperature": 0.03})
class SoftEstimator(QuantileEstimator):
    """The soft value of the target network's softmax policy; for blocks the mean over slots.

    Args:
        evaluate: Evaluates the network; a loss has it as an attribute.
        num_fractions: M.
        temperature: The temperature of the policy.
        gamma: The discount of one step.
        is_one_hot: Whether actions are one-hot.
        device: The device of the buffers.
    """

    temperature: Tensor

    def __init__(
        self,
        *,
        evaluate: NetworkPass,
        num_fractions: int,
        temperature: float = 0.03,  # Vieillard et al. 2020, section 4
        gamma: float = 0.99,
        is_one_hot: bool = False,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(
            evaluate=evaluate, num_fractions=num_fractions, gamma=gamma, is_one_hot=is_one_hot, device=device
        )
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be positive; for a greedy policy use 'greedy'")
        self.register_buffer("temperature", torch.tensor(float(temperature), device=device))

    def next_value(self, given: Given) -> tuple[Tensor, Tensor | None]:
        """One pass of the target network over the next states."""
        states = given.next_states
        return self.soft_value(self.evaluate(given.target_params, states, self.num_fractions), states), None

    def soft_value(self, quantiles: Quantiles, states: TensorDictBase) -> Tensor:
        """Soft values ``[B, M]`` of states."""
        value = soft_value(quantiles.values, self.log_policy(quantiles, states), self.temperature)
        return value if value.ndim == 2 else value.mean(-1)

    def log_policy(self, quantiles: Quantiles, states: TensorDictBase) -> Tensor:
        """Logarithm ``[B, ..., A]`` of the softmax policy."""
        mean = quantiles.mean()
        mask = self.mask(states, mean)
        if mask is None:
            return log_policy(mean, self.temperature)
        allowed = log_policy(mean.masked_fill(~mask, -torch.inf), self.temperature)
        return allowed.masked_fill(~mask, LOG_OF_ZERO)


@register_value_estimator(
    QuantileEstimators.MUNCHAUSEN, default_kwargs={"gamma": 0.99, "alpha": 0.9, "temperature": 0.03, "clip": -1.0}
)
class MunchausenEstimator(SoftEstimator):
    """Soft value, and the clipped log-policy of the action taken added to the reward (Vieillard et al. 2020, M-IQN).

    Both policies are the target network's, which evaluates states and next states in one pass. In an n-step return only
    the first action gets a bonus, because the transition does not hold the states in between. For blocks the bonus is
    clipped for each slot and averaged.

    Args:
        evaluate: Evaluates the network; a loss has it as an attribute.
        num_fractions: M.
        alpha: The weight of the log-policy.
        temperature: The temperature of the policy.
        clip: The lower bound of the quantity that ``clip_on`` names, negative or 0.
        clip_on: ``"scaled"`` (the paper: temperature * log policy), ``"log_policy"`` or ``"bonus"``.
        policy_from: The network of the bonus's policy: ``"target"`` (the paper) or ``"online"`` (BTR's code).
        gamma: The discount of one step.
        is_one_hot: Whether actions are one-hot.
        device: The device of the buffers.
    """

    alpha: Tensor
    clip: Tensor

    def __init__(
        self,
        *,
        evaluate: NetworkPass,
        num_fractions: int,
        alpha: float = 0.9,  # this and the next two: Vieillard et al. 2020, section 4
        temperature: float = 0.03,
        clip: float = -1.0,
        clip_on: Literal["scaled", "log_policy", "bonus"] = "scaled",
        policy_from: Literal["target", "online"] = "target",
        gamma: float = 0.99,
        is_one_hot: bool = False,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(
            evaluate=evaluate,
            num_fractions=num_fractions,
            temperature=temperature,
            gamma=gamma,
            is_one_hot=is_one_hot,
            device=device,
        )
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha}: must be in [0, 1]; instead of 0 use 'soft'")
        if not clip <= 0:
            raise ValueError(f"clip={clip}: must be negative or 0")
        if clip_on not in ("scaled", "log_policy", "bonus"):
            raise ValueError(f"clip_on={clip_on!r}: must be 'scaled', 'log_policy' or 'bonus'")
        if policy_from not in ("target", "online"):
            raise ValueError(f"policy_from={policy_from!r}: must be 'target' or 'online'")
        self.clip_on = clip_on
        self.policy_from = policy_from
        self.register_buffer("alpha", torch.tensor(float(alpha), device=device))
        self.register_buffer("clip", torch.tensor(float(clip), device=device))

    def next_value(self, given: Given) -> tuple[Tensor, Tensor]:
        """One pass of the target network over states and next states; over next states alone with the online policy."""
        states, after_states = given.batch, given.next_states
        if self.policy_from == "online":
            if given.online is None:
                raise ValueError("online=None: policy_from='online' needs the online network's quantiles of the states")
            before = given.online
            after = self.evaluate(given.target_params, after_states, self.num_fractions)
        else:
            keys = self.evaluate.state_keys
            both = [states.select(*keys), after_states.select(*keys)]
            is_one_sequence = states.ndim == 1 and self.evaluate.reads_time
            joined = torch.stack(both) if states.ndim == 0 or is_one_sequence else torch.cat(both)
            before, after = _halves(self.evaluate(given.target_params, joined, self.num_fractions))
        return self.soft_value(after, after_states), self.bonus(before, states)

    def bonus(self, quantiles: Quantiles, states: TensorDictBase) -> Tensor:
        """The bonus that is added to the reward, ``[B]``."""
        action = states.get(self.tensor_keys.action)
        if states.ndim > 1:
            action = action.flatten(0, states.ndim - 1)
        index = action_index(action, quantiles.values, is_one_hot=self.is_one_hot)
        chosen = self.log_policy(quantiles, states).gather(-1, index.unsqueeze(-1)).squeeze(-1)
        bonus = munchausen_bonus(
            chosen, alpha=self.alpha, temperature=self.temperature, clip=self.clip, clip_on=self.clip_on
        )
        return bonus if bonus.ndim == 1 else bonus.mean(-1)


def _halves(quantiles: Quantiles) -> tuple[Quantiles, Quantiles]:
    parts = [(None, None) if tensor is None else tensor.chunk(2) for tensor in quantiles]
    before, after = zip(*parts, strict=True)
    return Quantiles(*before), Quantiles(*after)
