"""The loss of fully parameterized quantile functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.data import TensorSpec

from tm_torchrl.modules.quantiles.fractions import FractionProposal
from tm_torchrl.modules.quantiles.network import QuantileNetwork, Quantiles
from tm_torchrl.objectives.actions import action_index, values_of
from tm_torchrl.objectives.demonstration_margin import DemonstrationMargin
from tm_torchrl.objectives.functional import fraction_loss
from tm_torchrl.objectives.network_pass import quantile_module
from tm_torchrl.objectives.quantile_loss import LossFractions, QuantileLoss, quantile_network
from tm_torchrl.objectives.self_loss import SelfLossNormalizer


class FQFLoss(QuantileLoss):
    """Fully parameterized quantile functions (Yang et al. 2019): two losses, for two optimiser groups.

    ``loss`` is the quantile Huber loss at the fractions that the network proposes for each state; it trains everything
    but the proposal. ``loss_fraction`` moves the proposed edges down the gradient of the 1-Wasserstein distance; it
    trains the proposal alone, whose features are detached. The target network proposes fractions for the next state,
    and its expectations weigh each quantile by the width of its part. Give the groups their own learning rates (in the
    paper 5e-5 for the quantiles and 2.5e-9 for the fractions, with RMSprop)::

        optimizer = Adam([
            {"params": list(loss.quantile_parameters()), "lr": 5e-5},
            {"params": list(loss.fraction_parameters()), "lr": 1e-6},
        ])
        losses = loss(batch)
        (losses["loss"] + losses["loss_fraction"]).backward()

    The network has a ``FractionProposal`` as its source, such as ``MLPFQFNetwork``. ``entropy_coefficient`` weighs the
    proposal's entropy, which keeps the parts from collapsing. ``fraction_lr_scale`` is the learning rate of the
    proposal as a share of the network's. The other arguments, the targets and the entries that are read and written
    are those of ``IQNLoss``.

    Examples:
        >>> from tm_torchrl.modules import MLPFQFNetwork
        >>> loss = FQFLoss(MLPFQFNetwork(4, 2, num_fractions=8), action_space="categorical")
        >>> loss.out_keys, len(list(loss.fraction_parameters()))
        (['loss', 'loss_fraction'], 2)
    """

    out_keys = ["loss", "loss_fraction"]  # noqa: RUF012 - as TorchRL declares it

    def __init__(
        self,
        value_network: TensorDictModuleBase | QuantileNetwork,
        *,
        action_space: str | TensorSpec | None = None,
        entropy_coefficient: float = 0.0,
        fraction_lr_scale: float = 2.5e-9 / 5e-5,  # Yang et al. 2019
        kappa: float = 1.0,
        delay_value: bool = True,
        priority: Literal["mean_difference", "loss"] = "mean_difference",
        normalizer: SelfLossNormalizer | None = None,
        margin: DemonstrationMargin | None = None,
        reduction: str | None = "mean",
        use_prioritized_weights: str | bool = "auto",
        check_finite: bool = False,
    ) -> None:
        network = quantile_network(value_network)
        if network is None or not isinstance(network.source, FractionProposal):
            raise ValueError(
                f"value_network={type(value_network).__name__}: must be a network that proposes fractions, such as "
                "MLPFQFNetwork"
            )
        super().__init__(
            value_network,
            fractions=LossFractions(network.num_fractions, network.num_fractions, None),
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
        self.entropy_coefficient = entropy_coefficient
        self.fraction_lr_scale = fraction_lr_scale

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group for the network, and one for the proposal with its own scale."""
        return [
            {"params": list(self.quantile_parameters()), "lr_scale": 1.0},
            {"params": list(self.fraction_parameters()), "lr_scale": self.fraction_lr_scale},
        ]

    def fraction_parameters(self) -> Iterator[nn.Parameter]:
        """The proposal's parameters, for an optimiser group with a small learning rate."""
        return (parameter for name, parameter in self.named_parameters() if _is_of_proposal(name))

    def quantile_parameters(self) -> Iterator[nn.Parameter]:
        """All other parameters."""
        return (parameter for name, parameter in self.named_parameters() if not _is_of_proposal(name))

    def _further_losses(self, batch: TensorDictBase, online: Quantiles, value_BN: Tensor) -> dict[str, Tensor]:
        assert online.edges is not None and online.entropy is not None
        module = quantile_module(self.value_network)
        assert module is not None
        # The quantile function at the inner edges; the encoder's features are known already.
        with torch.no_grad(), self.evaluate.swap.using(self.value_network_params):
            edge_values = module.network.head(online.features, online.edges[:, 1:-1])
        action = action_index(batch.get(self.tensor_keys.action), edge_values, is_one_hot=self.is_one_hot)
        loss_B = fraction_loss(online.edges, value_BN, values_of(edge_values, action))
        return {"loss_fraction": loss_B - self.entropy_coefficient * online.entropy}


def _is_of_proposal(name: str) -> bool:
    return "source" in name.split(".")
