"""A look into a network: gaps, churn, quantiles, dead neurons, rank, norms.

Shapes: B states, N fractions, S slots, A actions, D units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tm_torchrl.modules.fractions import FractionProposal, midpoints
from tm_torchrl.modules.network import QuantileNetwork

NUM_FRACTIONS = 32


def action_gap(values_BA: Tensor) -> float:
    """Mean difference between the best and the second best action.

    >>> action_gap(torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 5.0]]))
    3.0
    """
    best = values_BA.topk(2, dim=-1).values
    return float((best[..., 0] - best[..., 1]).mean())


def policy_churn(before_B: Tensor, after_B: Tensor) -> float:
    """Share of states whose greedy action changed (Schaul et al. 2022).

    >>> policy_churn(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2, 0]))
    0.25
    """
    return float((before_B != after_B).float().mean())


def action_swaps(actions_BT: Tensor) -> float:
    """Share of neighbouring actions of a drive that differ.

    >>> action_swaps(torch.tensor([[0, 0, 1, 0]]))
    0.6666666865348816
    """
    return float((actions_BT[..., 1:] != actions_BT[..., :-1]).float().mean())


def quantile_spread(values_BNA: Tensor) -> float:
    """Mean distance between the least and the greatest quantile.

    >>> quantile_spread(torch.tensor([[[0.0], [3.0], [1.0]]]))
    3.0
    """
    return float((values_BNA.amax(1) - values_BNA.amin(1)).mean())


def crossing_rate(values_BNA: Tensor, fractions_BN: Tensor) -> float:
    """Share of neighbouring quantiles that fall as their fraction rises.

    >>> crossing_rate(torch.tensor([[[0.0], [2.0], [1.0]]]), torch.tensor([[0.1, 0.5, 0.9]]))
    0.5
    """
    order = fractions_BN.argsort(1)
    order = order.view(*order.shape, *(1,) * (values_BNA.ndim - 2)).expand_as(values_BNA)
    return float((values_BNA.gather(1, order).diff(dim=1) < 0).float().mean())


def dormant_share(activations_BD: Tensor, *, threshold: float = 0.025) -> float:
    """Share of units whose mean activity is below a share of their layer's (Sokar et al. 2023).

    >>> dormant_share(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
    0.5
    """
    activity = activations_BD.abs().flatten(0, -2).mean(0)
    return float((activity <= threshold * activity.mean()).float().mean())


def effective_rank(features_BD: Tensor, *, share: float = 0.99) -> int:
    """Number of singular values that hold a share of their sum (Kumar et al. 2021).

    >>> effective_rank(torch.diag(torch.tensor([10.0, 10.0, 0.01])))
    2
    """
    singular = torch.linalg.svdvals(features_BD.float())
    held = singular.cumsum(0) / singular.sum().clamp(min=1e-12)
    return int((held < share).sum()) + 1


def norms_by_layer(network: nn.Module) -> dict[str, float]:
    """Norms of weights and, where there are any, of gradients: ``weights/LAYER``, ``gradients/LAYER``."""
    found = {}
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            layer = name.removesuffix(".weight")
            found[f"weights/{layer}"] = float(parameter.detach().norm())
            if parameter.grad is not None:
                found[f"gradients/{layer}"] = float(parameter.grad.norm())
    return found


class Diagnostics:
    """Looks at one network on the same states again and again; moves no random generator.

    Args:
        network: to look into.
        inputs: states, ``[B, ...]`` for each of the encoder's arguments.

    Examples:
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> found = Diagnostics(MLPIQNetwork(4, 2), [torch.randn(32, 4)]).measure()
        >>> sorted(found)[:3]
        ['action_gap', 'crossing_rate', 'dormant_share']
    """

    def __init__(self, network: QuantileNetwork, inputs: Sequence[Tensor]) -> None:
        self.network = network
        self.inputs = [value.clone() for value in inputs]
        self.greedy: Tensor | None = None

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """All measures; ``policy_churn`` since the last call, from the second on."""
        device = next(self.network.parameters()).device
        inputs = [value.to(device) for value in self.inputs]
        activations: list[Tensor] = []
        hooks = [
            module.register_forward_hook(lambda module, seen, out: activations.append(out.detach().clone()))
            for module in self.network.modules()
            if _is_activation(module)
        ]
        try:
            with torch.random.fork_rng(devices=[]):
                quantiles = self.network.quantiles(*inputs, fractions=self._fractions(len(inputs[0]), device))
        finally:
            for hook in hooks:
                hook.remove()
        values = quantiles.mean()
        greedy = values.argmax(-1)
        found = {
            "action_gap": action_gap(values),
            "quantile_spread": quantile_spread(quantiles.values),
            "crossing_rate": crossing_rate(quantiles.values, quantiles.fractions),
            "effective_rank": float(effective_rank(quantiles.features)) if quantiles.features is not None else 0.0,
            "value_mean": float(values.amax(-1).mean()),
        }
        if activations:
            found["dormant_share"] = sum(dormant_share(layer) for layer in activations) / len(activations)
        if self.greedy is not None:
            found["policy_churn"] = policy_churn(self.greedy, greedy)
        self.greedy = greedy
        return found | norms_by_layer(self.network)

    def _fractions(self, number: int, device: torch.device) -> Tensor | None:
        if not self.network.takes_fractions or isinstance(self.network.source, FractionProposal):
            return None
        return midpoints(NUM_FRACTIONS, device=device).expand(number, -1)

    def state_dict(self) -> dict[str, Any]:
        """States and the last greedy actions."""
        return {"inputs": self.inputs, "greedy": self.greedy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.inputs, self.greedy = list(state["inputs"]), state["greedy"]


def _is_activation(module: nn.Module) -> bool:
    return isinstance(module, (nn.LeakyReLU, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Tanh))
