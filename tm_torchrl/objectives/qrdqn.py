"""The loss of quantile regression DQN."""

from __future__ import annotations

from typing import Literal

from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec

from tm_torchrl.modules.quantiles.fractions import MidpointFractions
from tm_torchrl.modules.quantiles.network import QuantileNetwork
from tm_torchrl.objectives.demonstration_margin import DemonstrationMargin
from tm_torchrl.objectives.network_pass import quantile_module
from tm_torchrl.objectives.quantile_loss import LossFractions, QuantileLoss, quantile_network
from tm_torchrl.objectives.self_loss import SelfLossNormalizer


class QRDQNLoss(QuantileLoss):
    """Quantile regression DQN (Dabney et al. 2018): quantile Huber loss at the midpoints of N equal parts.

    The network has N outputs for each action (``MLPQRNetwork``), quantiles that cannot cross (``MLPNQNetwork``), or
    accepts any fractions and is evaluated at the N midpoints. A foreign TensorDict module writes ``quantile_values``
    ``[*B, N, A]``. ``num_fractions`` is N, ``None`` for the network's own number; a foreign module needs it. The other
    arguments, the targets and the entries that are read and written are those of ``IQNLoss``.

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
        margin: DemonstrationMargin | None = None,
        reduction: str | None = "mean",
        use_prioritized_weights: str | bool = "auto",
        check_finite: bool = False,
    ) -> None:
        num_fractions = _number_of_fractions(value_network, num_fractions)
        source = MidpointFractions() if _takes_fractions(value_network) else None
        super().__init__(
            value_network,
            fractions=LossFractions(num_fractions, num_fractions, source),
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


def _number_of_fractions(network: TensorDictModuleBase | QuantileNetwork, given: int | None) -> int:
    known = quantile_network(network)
    if known is None:
        if given is None:
            raise ValueError(f"num_fractions=None: must be given for a {type(network).__name__}")
        return given
    if not known.takes_fractions and given not in (None, known.num_fractions):
        raise ValueError(f"num_fractions={given}: the network has {known.num_fractions} fixed quantiles; leave it out")
    return known.num_fractions if given is None else given


def _takes_fractions(network: TensorDictModuleBase | QuantileNetwork) -> bool:
    return bool(getattr(quantile_module(network) or network, "takes_fractions", True))
