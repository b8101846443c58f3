"""Measures of a network: action gap, policy churn, quantiles, dormant neurons, rank of features, norms.

Shapes: B states, N fractions, S slots, A actions, D units, T steps.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchrl.envs import ExplorationType, set_exploration_type

from tm_torchrl.modules.layers.activations import CReLU
from tm_torchrl.modules.layers.noisy import draw_factors, is_noisy, row_noise
from tm_torchrl.modules.quantiles.fractions import FractionProposal, midpoints
from tm_torchrl.modules.quantiles.network import QuantileNetwork, Quantiles

NUM_FRACTIONS = 32
DORMANT = 0.025  # Sokar et al. 2023, section 3


def action_gap(values_BA: Tensor) -> float:
    """Mean difference between the values of the best and the second best action.

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


def noise_over_gap(values_BA: Tensor, noisy_BA: Tensor) -> float:
    """Deviation that noise gives to the advantages, divided by the action gap.

    >>> noise_over_gap(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 4.0]]))  # a value that all actions share
    0.0
    >>> noise_over_gap(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 3.0]]))
    0.25
    """
    noise_BA = noisy_BA - values_BA
    noise_BA = noise_BA - noise_BA.mean(-1, keepdim=True)
    return float(noise_BA.square().mean().sqrt()) / max(action_gap(values_BA), 1e-12)


def action_swaps(actions_BT: Tensor) -> float:
    """Share of consecutive actions of a drive that differ; 0 for a single action.

    >>> action_swaps(torch.tensor([[0, 0, 1, 0]]))
    0.6666666865348816
    """
    if actions_BT.shape[-1] < 2:
        return 0.0
    return float((actions_BT[..., 1:] != actions_BT[..., :-1]).float().mean())


def quantile_spread(values_BNA: Tensor) -> float:
    """Mean distance between the lowest and the highest quantile.

    >>> quantile_spread(torch.tensor([[[0.0], [3.0], [1.0]]]))
    3.0
    """
    return float((values_BNA.amax(1) - values_BNA.amin(1)).mean())


def crossing_rate(values_BNA: Tensor, fractions_BN: Tensor) -> float:
    """Share of neighbouring quantiles that decrease while their fraction increases; 0 for a single quantile.

    >>> crossing_rate(torch.tensor([[[0.0], [2.0], [1.0]]]), torch.tensor([[0.1, 0.5, 0.9]]))
    0.5
    """
    if fractions_BN.shape[1] < 2:
        return 0.0
    order = fractions_BN.argsort(1)
    order = order.view(*order.shape, *(1,) * (values_BNA.ndim - 2)).expand_as(values_BNA)
    return float((values_BNA.gather(1, order).diff(dim=1) < 0).float().mean())


def unit_activity(activations: Tensor) -> Tensor:
    """Each unit's mean absolute output divided by the mean over its layer, ``[D]``; all zeros for a dead layer.

    Units are the last dimension of ``[B, D]`` and ``[B, N, D]``, and the channels of images ``[B, D, H, W]``.

    >>> unit_activity(torch.tensor([[1.0, 0.0], [-3.0, 0.0]]))
    tensor([2., 0.])
    """
    units_last = activations.movedim(1, -1) if activations.ndim == 4 else activations
    activity = units_last.float().abs().flatten(0, -2).mean(0)
    return activity / activity.mean().clamp(min=torch.finfo(torch.float32).tiny)


def effective_rank(features_BD: Tensor, *, share: float = 0.99) -> int:
    """Number of singular values that make up a share of their sum (Kumar et al. 2021); 0 if all features are 0.

    >>> effective_rank(torch.diag(torch.tensor([10.0, 10.0, 0.01])))
    2
    """
    if not bool(features_BD.isfinite().all()):
        raise ValueError("features_BD: must be finite; find out what made them infinite or NaN")
    held = torch.linalg.svdvals(features_BD.float()).cumsum(0)
    if float(held[-1]) == 0.0:
        return 0
    return min(int((held < share * held[-1]).sum()) + 1, len(held))


def norms_by_layer(network: nn.Module) -> dict[str, float]:
    """Norms of weights and of existing gradients: ``weights/LAYER``, ``gradients/LAYER``.

    The standard deviations of a noisy layer's weights are ``weights/LAYER.sigma``.

    >>> from tm_torchrl.modules import NoisyLinear
    >>> list(norms_by_layer(nn.Sequential(nn.Linear(2, 2), NoisyLinear(2, 2))))
    ['weights/0', 'weights/1', 'weights/1.sigma']
    """
    found = {}
    for name, parameter in network.named_parameters():
        owner, _, kind = name.rpartition(".")
        if kind.startswith("weight"):
            layer = owner if kind in ("weight", "weight_mu") else f"{owner}.{kind.removeprefix('weight_')}"
            found[f"weights/{layer}"] = float(parameter.detach().norm())
            if parameter.grad is not None:
                found[f"gradients/{layer}"] = float(parameter.grad.norm())
    return found


class Diagnostics:
    """Measures one network repeatedly on the same states, without changing it or any random generator.

    The network is evaluated as it acts: in evaluation mode, without exploration noise, at the midpoints of 32 equal
    intervals if it takes fractions (FQF: at those that it proposes).

    Args:
        network: The network to measure.
        inputs: States, a tensor ``[B, ...]`` for each argument of the encoder.

    Examples:
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> found = Diagnostics(MLPIQNetwork(4, 2), [torch.randn(32, 4)]).measure()
        >>> sorted(found)[:3]
        ['action_gap', 'crossing_rate', 'dormant_share']
    """

    def __init__(self, network: QuantileNetwork, inputs: Sequence[Tensor]) -> None:
        if not inputs or not len(inputs[0]):
            raise ValueError("inputs: no states; must be a tensor [B, ...] with B > 0 for each argument of the encoder")
        self.network = network
        self.inputs = [value.clone() for value in inputs]
        self.greedy: Tensor | None = None

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """All measures; from the second call on also ``policy_churn`` since the last call.

        ``dormant_share`` counts the units of all activation layers together. ``effective_rank`` is NaN if features are
        not finite. Noisy layers add ``noise_changes_action``, the share of states whose greedy action a draw changes,
        and ``noise_over_gap``.
        """
        quantiles, activity = self._evaluate()
        values, features = quantiles.mean(), quantiles.features
        greedy = values.argmax(-1).cpu()
        found = {
            "action_gap": action_gap(values),
            "quantile_spread": quantile_spread(quantiles.values),
            "crossing_rate": crossing_rate(quantiles.values, quantiles.fractions),
            "effective_rank": float(effective_rank(features)) if bool(features.isfinite().all()) else math.nan,
            "value_mean": float(values.amax(-1).mean()),
        }
        if activity:
            found["dormant_share"] = float((torch.cat(activity) <= DORMANT).float().mean())
        if self.greedy is not None:
            found["policy_churn"] = policy_churn(self.greedy, greedy)
        self.greedy = greedy
        return found | self._noise(values) | norms_by_layer(self.network)

    def _noise(self, values_BA: Tensor) -> dict[str, float]:
        """What noise does to the values, if there are noisy layers, with a draw for each state."""
        if not is_noisy(self.network):
            return {}
        noisy_BA = self._evaluate(is_noisy=True)[0].mean()
        return {
            "noise_changes_action": policy_churn(values_BA.argmax(-1), noisy_BA.argmax(-1)),
            "noise_over_gap": noise_over_gap(values_BA, noisy_BA),
        }

    def _evaluate(self, *, is_noisy: bool = False) -> tuple[Quantiles, list[Tensor]]:
        device = next(self.network.parameters()).device
        inputs = [value.to(device) for value in self.inputs]
        mode = _evaluation_mode(self.network, device)
        noise = own_noise(self.network, len(inputs[0])) if is_noisy else contextlib.nullcontext()
        with mode, noise, _recorded_activity(self.network) as activity:
            quantiles = self.network.quantiles(*inputs, fractions=self._fractions(len(inputs[0]), device))
        return quantiles, activity

    def _fractions(self, number: int, device: torch.device) -> Tensor | None:
        if not self.network.takes_fractions or isinstance(self.network.source, FractionProposal):
            return None
        return midpoints(NUM_FRACTIONS, device=device).expand(number, -1)

    def state_dict(self) -> dict[str, Any]:
        """The states and the last greedy actions."""
        return {"inputs": self.inputs, "greedy": self.greedy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.inputs = list(state["inputs"])
        self.greedy = None if state["greedy"] is None else state["greedy"].cpu()


@contextlib.contextmanager
def _evaluation_mode(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode without exploration; modes and random generators are restored afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    for module, _ in modes:
        module.training = False
    try:
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), set_exploration_type(ExplorationType.DETERMINISTIC):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def own_noise(network: nn.Module, num_rows: int) -> Iterator[None]:
    """Noise of each row's own, from a fixed seed."""
    torch.manual_seed(0)
    with set_exploration_type(ExplorationType.RANDOM), row_noise(network, draw_factors(network, num_rows)):
        yield


@contextlib.contextmanager
def _recorded_activity(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the activity of the units of every activation layer, in the order of the forward pass."""
    found: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, seen, out: found.append(unit_activity(out.detach())))
        for module in network.modules()
        if isinstance(module, (nn.LeakyReLU, nn.ReLU, CReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Tanh))
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
