"""Diagnostics: every network, nothing disturbed."""

from __future__ import annotations

import pytest
import torch

from tm_torchrl.evaluation.diagnostics import Diagnostics, dormant_share, effective_rank, norms_by_layer
from tm_torchrl.modules import MLPFQFNetwork, MLPIQNetwork, MLPNQNetwork, MLPQRNetwork, QuantileNetwork

NETWORKS = [MLPIQNetwork, MLPQRNetwork, MLPFQFNetwork, MLPNQNetwork]


@pytest.mark.parametrize("slots", [None, 3])
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_is_measured_and_left_as_it_was(kind: type[QuantileNetwork], slots: int | None) -> None:
    network = kind(4, 5, hidden_sizes=(16,), head_size=8, num_slots=slots)  # type: ignore[call-arg]
    network(torch.randn(8, 4)).sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    drawn, diagnostics = torch.get_rng_state(), Diagnostics(network, [torch.linspace(-1, 1, 128).view(32, 4)])
    one, two = diagnostics.measure(), diagnostics.measure()
    assert torch.equal(drawn, torch.get_rng_state())
    left = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(gradients, left, strict=True))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert "policy_churn" not in one
    assert two.pop("policy_churn") == 0.0
    assert one == two
    assert one["action_gap"] > 0
    assert 1 <= one["effective_rank"] <= 16
    if kind is MLPNQNetwork:
        assert one["crossing_rate"] == 0.0


def test_churn_counts_changed_actions() -> None:
    network = MLPQRNetwork(4, 2, hidden_sizes=(8,), head_size=8, num_fractions=4, dueling=False)
    diagnostics = Diagnostics(network, [torch.randn(16, 4)])
    diagnostics.measure()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "advantage.2" in name:
                parameter.neg_()  # best becomes worst
    assert diagnostics.measure()["policy_churn"] == 1.0


def test_dead_units_are_counted_over_all_leading_dimensions() -> None:
    activations = torch.ones(4, 3, 8)
    activations[..., :2] = 0.0
    assert dormant_share(activations) == 0.25


def test_rank_of_repeated_directions() -> None:
    features = torch.randn(64, 3) @ torch.randn(3, 32)
    assert effective_rank(features) <= 3


def test_norms_have_gradients_only_where_there_are_any() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    torch.nn.init.constant_(layer[0].weight, 1.0)
    assert norms_by_layer(layer) == {"weights/0": 2.0}
    layer(torch.ones(1, 2)).sum().backward()
    assert norms_by_layer(layer)["gradients/0"] == 2.0
