"""The loss that the quantile family shares; subclasses choose the fractions.

Shapes: B batch, N online fractions, M target fractions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase, TensorDictParams, unravel_key
from tensordict.nn import TensorDictModuleBase, dispatch
from torch import Tensor, nn
from torchrl.data import TensorSpec
from torchrl.data.utils import _find_action_space
from torchrl.envs import ExplorationType
from torchrl.objectives.common import LossModule
from torchrl.objectives.utils import ValueEstimators, dispatch_value_estimator
from torchrl.objectives.value import ValueEstimatorBase

from tm_torchrl.modules.actor import QuantileActor, QuantileModule
from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.quantiles.fractions import FractionSource
from tm_torchrl.modules.quantiles.network import QuantileNetwork, Quantiles, mean_over_fractions
from tm_torchrl.objectives.actions import action_index, values_of
from tm_torchrl.objectives.batch_checks import check_actions, check_batch, check_quantiles, first_non_finite, is_traced
from tm_torchrl.objectives.demonstration_margin import DemonstrationMargin
from tm_torchrl.objectives.frozen import share_frozen
from tm_torchrl.objectives.functional import quantile_huber_loss
from tm_torchrl.objectives.memory_pass import MemoryPass, StepKeys, spread
from tm_torchrl.objectives.network_pass import NetworkPass, quantile_module
from tm_torchrl.objectives.self_loss import SelfLossNormalizer
from tm_torchrl.objectives.value_estimators import DoubleEstimator, QuantileEstimator, QuantileEstimators

MARGIN_LOSS = "loss_margin"
LARGEST_KAPPA = 1e9  # beyond any error; float32 computes half of its square


class LossFractions(NamedTuple):
    """The fractions at which a loss evaluates its networks."""

    num_online: int  # N
    num_target: int  # M
    source: FractionSource | None  # None leaves the choice to the network


class QuantileLoss(LossModule):
    """The quantile Huber loss of a network against its value estimator's target.

    Subclasses choose the fractions. The other arguments are described in ``IQNLoss``.
    """

    @dataclass
    class _AcceptedKeys:
        advantage: NestedKey = "advantage"
        value_target: NestedKey = "value_target"
        value: NestedKey = "chosen_action_value"
        action_value: NestedKey = "action_value"
        action: NestedKey = "action"
        priority: NestedKey = "td_error"
        reward: NestedKey = "reward"
        done: NestedKey = "done"
        terminated: NestedKey = "terminated"
        priority_weight: NestedKey = "priority_weight"
        steps_to_next_obs: NestedKey = "steps_to_next_obs"
        quantile_values: NestedKey = "quantile_values"
        fractions: NestedKey = "fractions"
        action_mask: NestedKey = "action_mask"
        is_demonstration: NestedKey = "is_demonstration"

    tensor_keys: _AcceptedKeys
    default_keys = _AcceptedKeys
    default_value_estimator = QuantileEstimators.GREEDY
    supported_value_estimators = (*QuantileEstimators, ValueEstimators.TD0)
    out_keys = ["loss"]  # noqa: RUF012 - as TorchRL declares it
    # The noise of layers is part of the loss; TorchRL's default would switch it off.
    deterministic_sampling_mode = ExplorationType.RANDOM

    value_network: TensorDictModuleBase
    value_network_params: TensorDictParams
    target_value_network_params: TensorDictParams

    def __init__(
        self,
        value_network: TensorDictModuleBase | QuantileNetwork,
        *,
        fractions: LossFractions,
        action_space: str | TensorSpec | None = None,
        kappa: float = 1.0,
        delay_value: bool = True,
        priority: Literal["mean_difference", "loss"] = "mean_difference",
        normalizer: SelfLossNormalizer | None = None,
        margin: DemonstrationMargin | None = None,
        reduction: str | None = "mean",
        use_prioritized_weights: str | bool = "auto",
        check_finite: bool = False,
    ) -> None:
        super().__init__()
        require_count(fractions.num_online, argument="num_fractions")
        require_count(fractions.num_target, argument="num_target_fractions")
        if not 0 <= kappa <= LARGEST_KAPPA:
            raise ValueError(f"kappa={kappa}: must be between 0, which is the pinball loss, and {LARGEST_KAPPA:g}")
        if priority not in ("mean_difference", "loss"):
            raise ValueError(f"priority={priority!r}: must be 'mean_difference' or 'loss'")
        if reduction not in ("mean", "sum", "none", None):
            raise ValueError(f"reduction={reduction!r}: must be 'mean', 'sum' or 'none'")
        if isinstance(value_network, QuantileNetwork):
            value_network = QuantileModule(value_network)
        if not isinstance(value_network, TensorDictModuleBase):
            raise TypeError(
                f"value_network={type(value_network).__name__}: must be a QuantileActor, a QuantileNetwork or a "
                "TensorDict module that writes 'quantile_values'"
            )
        self.is_one_hot = _is_one_hot(action_space, value_network)
        self.num_fractions, self.num_target_fractions, source = fractions
        self.kappa = kappa
        self.delay_value = delay_value
        self.priority = priority
        self.normalizer = normalizer
        self.margin = margin
        if margin is not None:
            self.out_keys = [*self.out_keys, MARGIN_LOSS]
        self.reduction = "mean" if reduction is None else reduction  # None is TorchRL's default
        self.use_prioritized_weights = use_prioritized_weights
        self.check_finite = check_finite
        self._is_checked = False
        self.convert_to_functional(value_network, "value_network", create_target_params=delay_value)
        if delay_value:
            share_frozen(self, "value_network_params")
        mask_key = getattr(quantile_actor(value_network), "action_mask_key", None)
        if mask_key is not None:
            self.tensor_keys.action_mask = mask_key
        keys = self.tensor_keys
        module = quantile_module(value_network)
        has_memory = module is not None and module.network.core is not None
        self.evaluate = (MemoryPass if has_memory else NetworkPass)(
            value_network, source=source, quantile_values_key=keys.quantile_values, fractions_key=keys.fractions
        )
        # Made here, so that the state dict is the same before and after the first use.
        self.make_value_estimator()

    @property
    def in_keys(self) -> list[NestedKey]:
        """The keys of observations, action and outcome."""
        return self.evaluate.batch_keys(self.value_estimator.in_keys)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: parameters, and ``lr_scale``, which multiplies their learning rate."""
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]

    def make_value_estimator(
        self,
        value_type: QuantileEstimators | ValueEstimators | str | ValueEstimatorBase | type | None = None,
        **hyperparams: Any,
    ) -> QuantileLoss:
        """Choose the target: ``"greedy"``, ``"double"``, ``"soft"`` or ``"munchausen"``, with its arguments.

        ``ValueEstimators.TD0``, TorchRL's name for one-step targets, is ``"greedy"``.
        """
        if value_type in (None, "td0", "TD0", ValueEstimators.TD0):
            value_type = self.default_value_estimator
        if isinstance(value_type, ValueEstimatorBase):
            self._value_estimator, self.value_type = value_type, type(value_type)
        else:
            hyperparams.setdefault("device", self._default_device)
            if isinstance(value_type, type):
                estimator: type[QuantileEstimator] = value_type
                self._value_estimator, self.value_type = estimator.for_loss(self, **hyperparams), value_type
            else:
                dispatch_value_estimator(self, value_type, supported=self.supported_value_estimators, **hyperparams)
        if isinstance(self._value_estimator, DoubleEstimator) and not self.delay_value:
            raise ValueError(
                "delay_value=False: double targets need a target network; use delay_value=True or 'greedy'"
            )
        self._forward_value_estimator_keys()
        return self

    @dispatch  # type: ignore[untyped-decorator]
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The loss of a batch ``[B]`` or ``[B, T]``; also writes the priority of each sample into it.

        A recurrent layer of TorchRL before the network reads a row of ``[B, T]`` as one sequence, and ``[T]`` too. A
        network with a core learns from the steps that ``learning_mask`` names; see ``MemoryPass``.
        """
        params, target_params = self.value_network_params, self.target_value_network_params
        steps = tensordict
        if isinstance(self.evaluate, MemoryPass):
            self.evaluate.draw_noise(params, target_params)
            steps = self.evaluate.steps(tensordict, online=params, target=target_params, keys=self._step_keys())
        batch = steps if steps.ndim == 1 else steps.reshape(-1)  # networks see it unflattened
        self._check(batch)
        if steps is tensordict:
            self.evaluate.draw_noise(params, target_params)
        online = self.evaluate(params, steps, self.num_fractions)
        value_BN = self._values_of_action(batch, online)
        target_BM = self.value_estimator.value_estimate(steps, target_params, params=params, online=online)
        loss_B = quantile_huber_loss(value_BN, online.fractions.detach(), target_BM, kappa=self.kappa)
        if self.normalizer is not None:
            loss_B = self.normalizer(loss_B, target_BM)
        if self.check_finite:
            first_non_finite(self, batch, online_quantiles=value_BN, target_quantiles=target_BM, loss=loss_B)
        self._write_priority(steps, online, value_BN, target_BM, loss_B)
        if steps is not tensordict:
            key = self.tensor_keys.priority
            tensordict.set(key, spread(steps.get(key).squeeze(-1), steps, tensordict))
        losses = {"loss": loss_B, **self._further_losses(batch, online, value_BN)}
        if self.margin is not None:
            losses[MARGIN_LOSS] = self._margin_loss(batch, online)
        output = TensorDict({name: self._reduced(each_B, steps, batch) for name, each_B in losses.items()})
        self._clear_weakrefs(tensordict, output, "value_network_params", "target_value_network_params")
        return output

    def _step_keys(self) -> StepKeys:
        keys = self.tensor_keys
        outcome = [unravel_key(("next", key)) for key in (keys.reward, keys.done, keys.terminated, keys.action_mask)]
        of_steps = [keys.action, keys.action_mask, keys.steps_to_next_obs, keys.priority_weight, keys.is_demonstration]
        return StepKeys([*of_steps, *outcome], keys.steps_to_next_obs, keys.action_mask)

    def _values_of_action(self, batch: TensorDictBase, online: Quantiles) -> Tensor:
        is_first = not is_traced() and not self._is_checked
        if is_first:
            check_quantiles(online, self)
        key = self.tensor_keys.action
        index = action_index(batch.get(key), online.values, is_one_hot=self.is_one_hot)
        if is_first:
            check_actions(index, online.values.shape[-1], f"{type(self).__name__}: the batch's {key!r}")
            self._is_checked = True
        return values_of(online.values, index)

    def _margin_loss(self, batch: TensorDictBase, online: Quantiles) -> Tensor:
        assert self.margin is not None
        keys = self.tensor_keys
        is_demonstration = batch.get(keys.is_demonstration, None)
        if is_demonstration is None:
            return torch.zeros(len(batch), device=online.values.device)
        index = action_index(batch.get(keys.action), online.values, is_one_hot=self.is_one_hot)
        return self.margin(online.mean(), index, is_demonstration)

    def _further_losses(self, batch: TensorDictBase, online: Quantiles, value_BN: Tensor) -> dict[str, Tensor]:
        return {}

    def _reduced(self, loss_B: Tensor, tensordict: TensorDictBase, batch: TensorDictBase) -> Tensor:
        weights_B = None
        if self.use_prioritized_weights:
            weights_B = batch.get(self.tensor_keys.priority_weight, None)
            if weights_B is None and self.use_prioritized_weights is True:
                raise KeyError(
                    f"use_prioritized_weights=True: the batch has no {self.tensor_keys.priority_weight!r}; sample from "
                    "a prioritised buffer, or use 'auto'"
                )
        weights_B = None if weights_B is None else weights_B.reshape(loss_B.shape).to(loss_B.dtype)
        reduced = self._reduce_loss(loss_B, tensordict=batch, weights=weights_B)
        return reduced.reshape(tensordict.batch_size) if self.reduction == "none" else reduced

    @torch.no_grad()
    def _write_priority(
        self, tensordict: TensorDictBase, online: Quantiles, value_BN: Tensor, target_BM: Tensor, loss_B: Tensor
    ) -> None:
        if self.priority == "loss":
            priority_B = loss_B
        else:
            priority_B = (mean_over_fractions(value_BN, online.edges) - target_BM.mean(-1)).abs()
        # A NaN must not reach the buffer: a sample with one gets the lowest priority.
        priority_B = priority_B.detach().nan_to_num(nan=0.0, posinf=0.0)
        tensordict.set(self.tensor_keys.priority, priority_B.reshape(*tensordict.batch_size, 1), inplace=True)

    def _check(self, batch: TensorDictBase) -> None:
        if not is_traced() and (self.check_finite or not self._is_checked):
            check_batch(batch, self)

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
        keys = self.tensor_keys
        if self._value_estimator is not None:
            accepted = type(self._value_estimator)._AcceptedKeys.__dataclass_fields__
            own = {name: key for name, key in asdict(keys).items() if name in accepted}
            self._value_estimator.set_keys(**own)
        self.evaluate.quantile_values_key, self.evaluate.fractions_key = keys.quantile_values, keys.fractions
        self._is_checked = False


def quantile_network(network: TensorDictModuleBase | QuantileNetwork) -> QuantileNetwork | None:
    """The quantile network inside one of our own modules; ``None`` for a foreign module."""
    module = quantile_module(network)
    return network if isinstance(network, QuantileNetwork) else module.network if module is not None else None


def quantile_actor(network: nn.Module) -> QuantileActor | None:
    """The actor in a network."""
    return next((module for module in network.modules() if isinstance(module, QuantileActor)), None)


def _is_one_hot(action_space: str | TensorSpec | None, network: nn.Module) -> bool:
    network = quantile_actor(network) or network
    if action_space is None:
        action_space = getattr(network, "action_space", None) or getattr(network, "spec", None)
    if action_space is None:
        raise ValueError(
            f"action_space=None: a {type(network).__name__} has no action space; give 'categorical', 'one_hot' or the "
            "environment's action spec, or a QuantileActor as value_network"
        )
    found = _find_action_space(action_space)
    if found not in ("categorical", "one_hot"):
        raise ValueError(f"action_space={found!r}: must be 'categorical' or 'one_hot'")
    return bool(found == "one_hot")
