"""The loss of implicit quantile networks."""

from __future__ import annotations

from typing import Literal

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec

from tm_torchrl.modules.quantiles.fractions import FractionProposal, FractionSource, StratifiedFractions
from tm_torchrl.modules.quantiles.network import QuantileNetwork
from tm_torchrl.objectives.demonstration_margin import DemonstrationMargin
from tm_torchrl.objectives.network_pass import quantile_module
from tm_torchrl.objectives.quantile_loss import LossFractions, QuantileLoss, quantile_network
from tm_torchrl.objectives.self_loss import SelfLossNormalizer


class IQNLoss(QuantileLoss):
    """Implicit quantile networks (Dabney et al. 2018): quantile Huber loss at sampled fractions.

    For each sample N fractions are drawn for the online network and M for the target; the loss is summed over the first
    and averaged over the second. The target is ``greedy`` as in the paper, until another one is chosen:
    ``loss.make_value_estimator("munchausen", gamma=0.99)``; see ``tm_torchrl.objectives.value_estimators``. Only the
    online network's parameters get gradients.

    The loss reads observations, ``action``, and of ``next`` observations, ``reward``, ``done`` and ``terminated``; if
    present also ``steps_to_next_obs`` of n-step returns, ``priority_weight``, and ``action_mask``, whose False actions
    no target chooses. It writes each sample's priority into the batch, ``td_error`` ``[*B, 1]``.

    Args:
        value_network: A ``QuantileActor`` or ``QuantileModule``, also at the end of a ``TensorDictSequential``, a
            ``QuantileNetwork`` that reads ``observation``, or any TensorDict module that reads ``fractions``
            ``[*B, N]`` and writes ``quantile_values`` ``[*B, N, A]``.
        action_space: ``"categorical"``, ``"one_hot"`` or a spec; ``None`` for the network's own.
        num_fractions: N; in the paper 8 is as good as 64 from the start of training.
        num_target_fractions: M.
        source: Draws the fractions; ``None`` for the network's own source, or ``StratifiedFractions`` without one.
        kappa: The error at which the Huber loss turns from square to linear.
        delay_value: Whether there is a target network apart from the online network.
        priority: The priority of a sample: ``"mean_difference"`` |mean of online - mean of target|, or ``"loss"``.
        normalizer: Rescales the loss of each sample; ``None`` for none.
        margin: A second loss, ``loss_margin``, of the samples that ``is_demonstration`` marks; ``None`` for none.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; importance weights and masks are those of TorchRL's losses.
        use_prioritized_weights: Whether ``priority_weight`` weighs the samples; ``"auto"`` uses it if present.
        check_finite: Check every tensor and name the first one that is not finite; slow, for debugging.

    Examples:
        >>> import torch
        >>> from torchrl.data import Categorical
        >>> from torchrl.objectives import SoftUpdate
        >>> from tm_torchrl.modules import MLPIQNetwork, QuantileActor
        >>> actor = QuantileActor(MLPIQNetwork(4, 2), spec=Categorical(2))
        >>> loss = IQNLoss(actor).make_value_estimator("munchausen", gamma=0.99)
        >>> updater = SoftUpdate(loss, tau=0.01)
        >>> observation, next_observation = torch.randn(2, 5, 4)
        >>> value = loss(
        ...     observation=observation,
        ...     action=torch.tensor([0, 1, 1, 0, 1]),
        ...     next_observation=next_observation,
        ...     next_reward=torch.ones(5, 1),
        ...     next_done=torch.zeros(5, 1, dtype=torch.bool),
        ...     next_terminated=torch.zeros(5, 1, dtype=torch.bool),
        ... )
        >>> value.backward()
    """

    def __init__(
        self,
        value_network: TensorDictModuleBase | QuantileNetwork,
        *,
        action_space: str | TensorSpec | None = None,
        num_fractions: int = 8,
        num_target_fractions: int = 8,
        source: FractionSource | None = None,
        kappa: float = 1.0,
        delay_value: bool = True,
        priority: Literal["mean_difference", "loss"] = "mean_difference",
        normalizer: SelfLossNormalizer | None = None,
        margin: DemonstrationMargin | None = None,
        reduction: str | None = "mean",
        use_prioritized_weights: str | bool = "auto",
        check_finite: bool = False,
    ) -> None:
        source = _source(value_network) if source is None else source
        super().__init__(
            value_network,
            fractions=LossFractions(num_fractions, num_target_fractions, source),
            action_space=action_space,
            kappa=kappa,
            delay_value=delay_value,
            priority=priority,
            normalizer=normalizer,
            margin=margin,
            reduction=reduction,
            use_prioritized_weights=use_prioritized_weights,
            check_finite=check_finite,
        )
        if quantile_module(self.value_network) is not None:  # the keys of a foreign module may still be set
            self._require_fractions()

    def _check(self, batch: TensorDictBase) -> None:
        if not self._is_checked:
            self._require_fractions()
        super()._check(batch)

    def _require_fractions(self) -> None:
        if not self.evaluate.takes_fractions:
            raise ValueError(
                "value_network: its values do not depend on the fractions that IQNLoss draws "
                f"({self.tensor_keys.fractions!r} is not among its in_keys {self.value_network.in_keys}); use "
                "QRDQNLoss for a network with fixed quantiles"
            )


def _source(network: TensorDictModuleBase | QuantileNetwork) -> FractionSource:
    known = quantile_network(network)
    own = None if known is None else known.source
    if isinstance(own, FractionProposal):
        raise ValueError("value_network: it proposes its own fractions; use FQFLoss, or give a source")
    return StratifiedFractions() if own is None else own
