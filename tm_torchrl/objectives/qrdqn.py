"""The loss of quantile regression DQN."""

from __future__ import annotations

from typing import Literal

from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec

from tm_torchrl.modules.quantiles.fractions import MidpointFractions
from tm_torchrl.modules.quantiles.network import QuantileNetwork
from tm_torchrl.objectives.network_pass import quantile_module
from tm_torchrl.objectives.quantile_loss import QuantileLoss
from tm_torchrl.objectives.self_loss import SelfLossNormalizer


class QRDQNLoss(QuantileLoss):
    """Quantile regression DQN (Dabney et al. 2018): quantile Huber loss at the middles of N equal parts.

    The network has N outputs for each action (``MLPQRNetwork``), quantiles that cannot cross (``MLPNQNetwork``), or
    takes any fractions and is asked for the N middles. Targets, what is read and what is written are those of
    ``IQNLoss``.

    Args:
        value_network: a ``QuantileActor``, a ``QuantileModule``, a ``QuantileNetwork`` that reads ``observation``, or
            any TensorDict module that writes ``quantile_values`` ``[*B, N, A]``.
        action_space: ``"categorical"``, ``"one_hot"`` or a spec; ``None`` to take the network's.
        num_fractions: N; ``None`` for the network's own number, which a foreign module does not tell.
        kappa: where the Huber loss turns from square to linear.
        delay_value: a target network apart from the online network.
        priority: written for each sample: ``"mean_difference"`` |mean of online - mean of target|, or ``"loss"``.
        normalizer: of the loss of each sample; ``None`` for none.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; importance weights and masks as in TorchRL's losses.
        use_prioritized_weights: whether ``priority_weight`` weighs the samples; ``"auto"``: if it is there.
        check_finite: look at every tensor for non-finite numbers and name the first one; for debugging, costs time.

    Examples:
        >>> from tensordict.nn import TensorDictModule
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 32 * 2), nn.Unflatten(-1, (32, 2)))
        >>> module = TensorDictModule(network, in_keys=["observation"], out_keys=["quantile_values"])
        >>> loss = QRDQNLoss(module, num_fractions=32, action_space="categorical")
        >>> loss.make_value_estimator("double", gamma=0.99).value_type
        <QuantileEstimators.DOUBLE: 2>
    """

    def __init__(
        self,
        value_network: TensorDictModuleBase | QuantileNetwork,
        *,
        action_space: str | TensorSpec | None = None,
        num_fractions: int | None = None,
        kappa: float = 1.0,
        delay_value: bool = True,
        priority: Literal["mean_difference", "loss"] = "mean_difference",
        normalizer: SelfLossNormalizer | None = None,
        reduction: str = "mean",
        use_prioritized_weights: str | bool = "auto",
        check_finite: bool = False,
    ) -> None:
        num_fractions = _number_of_fractions(value_network, num_fractions)
        super().__init__(
            value_network,
            action_space=action_space,
            num_fractions=num_fractions,
            num_target_fractions=num_fractions,
            source=MidpointFractions() if _takes_fractions(value_network) else None,
            kappa=kappa,
            delay_value=delay_value,
            priority=priority,
            normalizer=normalizer,
            reduction=reduction,
            use_prioritized_weights=use_prioritized_weights,
            check_finite=check_finite,
        )


def _number_of_fractions(network: TensorDictModuleBase | QuantileNetwork, asked: int | None) -> int:
    module = quantile_module(network)
    own = network if isinstance(network, QuantileNetwork) else module.network if module else None
    if own is None and asked is None:
        raise ValueError(
            f"num_fractions=None: a {type(network).__name__} does not tell how many quantiles it has; say it"
        )
    if own is not None and not own.takes_fractions and asked not in (None, own.num_fractions):
        raise ValueError(f"num_fractions={asked}: the network has {own.num_fractions} fixed quantiles; leave it out")
    return asked if asked is not None else own.num_fractions  # type: ignore[union-attr]


def _takes_fractions(network: TensorDictModuleBase | QuantileNetwork) -> bool:
    return bool(getattr(quantile_module(network) or network, "takes_fractions", True))
