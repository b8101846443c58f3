"""Diagnostics: every network is measured and left unchanged."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torchrl.envs import ExplorationType, set_exploration_type

from tm_torchrl.evaluation import (
    Diagnostics,
    action_gap,
    action_swaps,
    crossing_rate,
    effective_rank,
    norms_by_layer,
    policy_churn,
    quantile_spread,
)
from tm_torchrl.evaluation.diagnostics import unit_activity
from tm_torchrl.modules import (
    Decoder,
    FixedHead,
    LayerStyle,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPNQNetwork,
    MLPQRNetwork,
    NoisyLinear,
    PixelEncoder,
    QuantileNetwork,
    reset_noise,
)

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


def test_quantiles_are_put_in_the_order_of_their_fractions() -> None:
    # Two slots. By rising fraction slot 0 says 1, 2, 3 (never falls), slot 1 says 1, 3, 2 (falls once in two steps).
    fractions = torch.tensor([[0.9, 0.1, 0.5]])
    values = torch.tensor([[[[3.0], [2.0]], [[1.0], [1.0]], [[2.0], [3.0]]]])  # [B, N, S, A]
    assert crossing_rate(values, fractions) == 0.25
    assert quantile_spread(values) == 2.0


def test_measures_of_action_blocks_count_every_slot() -> None:
    values = torch.tensor([[[1.0, 4.0], [2.0, 1.0]]])  # gaps 3 and 1
    assert action_gap(values) == 2.0
    assert policy_churn(torch.tensor([[0, 1]]), torch.tensor([[0, 0]])) == 0.5


def test_a_single_action_swaps_nothing() -> None:
    assert action_swaps(torch.tensor([5])) == 0.0
    assert action_swaps(torch.tensor([[5, 5, 5, 2], [1, 2, 1, 2]])) == pytest.approx((1 + 3) / 6)


def test_churn_counts_changed_actions() -> None:
    network = MLPQRNetwork(4, 2, hidden_sizes=(8,), head_size=8, num_fractions=4, dueling=False)
    diagnostics = Diagnostics(network, [torch.randn(16, 4)])
    diagnostics.measure()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "advantage.2" in name:
                parameter.neg_()  # best becomes worst
    assert diagnostics.measure()["policy_churn"] == 1.0


def test_units_of_images_are_channels_and_others_are_last() -> None:
    assert unit_activity(torch.zeros(4, 2)).tolist() == [0.0, 0.0] and effective_rank(torch.zeros(4, 8)) == 0
    rows = torch.ones(4, 3, 4)
    rows[..., :2] = 0.0
    assert unit_activity(rows).tolist() == [0.0, 0.0, 2.0, 2.0]
    images = torch.zeros(2, 4, 6, 5)  # [B, C, H, W]
    images[:, 2:] = -3.0
    assert unit_activity(images).tolist() == [0.0, 0.0, 2.0, 2.0]


def test_dormant_units_are_counted_over_all_layers() -> None:
    # Encoder: 4 of 4 alive. Decoder: 12 units, 6 of them made dead. Together 6 of 16, not the mean of 0 and 1/2.
    encoder = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    nn.init.constant_(encoder[0].weight, 1.0)
    decoder = Decoder(4, 3, num_outputs=2, hidden_size=12, style=LayerStyle(nn.ReLU))
    with torch.no_grad():
        decoder.advantage[0].weight.fill_(1.0)
        decoder.advantage[0].weight[:6] = -1.0
        decoder.advantage[0].bias.zero_()
    found = Diagnostics(QuantileNetwork(encoder, FixedHead(decoder)), [torch.ones(5, 2)]).measure()
    assert found["dormant_share"] == 6 / 16


def test_rank_of_repeated_directions() -> None:
    features = torch.randn(64, 3) @ torch.randn(3, 32)
    assert effective_rank(features) <= 3
    assert effective_rank(torch.eye(7)) == 7  # 6/7 of the sum is less than 99 %
    assert effective_rank(torch.eye(7), share=1.0) == 7
    # Singular values 8, 1, 1: the first holds 80 %, two hold 90 %.
    assert [effective_rank(torch.diag(torch.tensor([8.0, 1.0, 1.0])), share=s) for s in (0.7, 0.85, 0.95)] == [1, 2, 3]


def test_a_network_that_is_not_finite_gives_nan_instead_of_an_error() -> None:
    network = MLPQRNetwork(4, 2, hidden_sizes=(8,), head_size=8, num_fractions=4)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    found = Diagnostics(network, [torch.randn(16, 4)]).measure()
    assert math.isnan(found["effective_rank"])
    assert math.isnan(found["action_gap"])
    with pytest.raises(ValueError, match="features_BD"):
        effective_rank(torch.full((4, 8), torch.nan))


class Restless(nn.Module):
    """An encoder that draws numbers and moves running statistics while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.layers(observation)


def test_running_statistics_modes_and_noise_are_left_alone() -> None:
    encoder = Restless()
    network = QuantileNetwork(
        encoder, FixedHead(Decoder(8, 3, num_outputs=4, hidden_size=8, style=LayerStyle(linear=NoisyLinear)))
    )
    encoder.layers[3].eval()  # a mixture of modes
    modes = [module.training for module in network.modules()]
    state, drawn = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    diagnostics = Diagnostics(network, [torch.randn(16, 4, generator=torch.Generator().manual_seed(0))])
    before = diagnostics.measure()
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
    reset_noise(network)
    with set_exploration_type(ExplorationType.RANDOM):  # the noise takes no part
        after = diagnostics.measure()
    assert after.pop("policy_churn") == 0.0
    assert after == before


def test_modes_come_back_when_a_measure_fails() -> None:
    network = MLPQRNetwork(4, 2, hidden_sizes=(8,), head_size=8, num_fractions=4)
    with pytest.raises(RuntimeError):
        Diagnostics(network, [torch.randn(16, 5)]).measure()
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_pixels_are_measured() -> None:
    """Every weight and every pixel is positive, so every unit is alive but for the eight channels made dead."""
    encoder = PixelEncoder()
    network = QuantileNetwork(encoder, FixedHead(Decoder(512, 3, num_outputs=4, hidden_size=8)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
        encoder.layers[0].weight[:8] = 0.0
        encoder.layers[0].bias[:8] = 0.0
    found = Diagnostics(network, [torch.full((8, 1, 64, 64), 200, dtype=torch.uint8)]).measure()
    # 16 + 32 + 64 + 32 channels of four layers, 8 units in the head.
    assert found["dormant_share"] == pytest.approx(8 / 152)


def test_churn_goes_on_where_it_was_saved() -> None:
    network = MLPIQNetwork(4, 5, hidden_sizes=(8,), head_size=8)
    one = Diagnostics(network, [torch.randn(16, 4)])
    one.measure()
    other = Diagnostics(network, [torch.zeros(1, 4)])
    other.load_state_dict(one.state_dict())
    assert other.measure() == one.measure()
    with pytest.raises(ValueError, match="inputs: no states"):
        Diagnostics(network, [torch.zeros(0, 4)])


def test_norms_of_noisy_layers() -> None:
    layer = nn.Sequential(NoisyLinear(4, 4, sigma_init=0.5))
    nn.init.constant_(layer[0].weight_mu, 3.0)
    # 16 weights of 3: norm 12. 16 deviations of 0.5 / sqrt(4) = 0.25: norm 1.
    assert norms_by_layer(layer) == {"weights/0": 12.0, "weights/0.sigma": 1.0}


def test_norms_have_gradients_only_where_there_are_any() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    torch.nn.init.constant_(layer[0].weight, 1.0)
    assert norms_by_layer(layer) == {"weights/0": 2.0}
    layer(torch.ones(1, 2)).sum().backward()
    assert norms_by_layer(layer)["gradients/0"] == 2.0


def test_noise_is_measured() -> None:
    torch.manual_seed(0)
    network = MLPQRNetwork(4, 3, hidden_sizes=(8,), head_size=8, linear=NoisyLinear)
    states = 10.0 * torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    found = Diagnostics(network, [states]).measure()
    assert 0 < found["noise_changes_action"] < 1
    assert found["noise_over_gap"] > 0
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "sigma" in name:
                parameter.zero_()
    quiet = Diagnostics(network, [states]).measure()
    assert (quiet["noise_changes_action"], quiet["noise_over_gap"]) == (0.0, 0.0)
    assert "noise_over_gap" not in Diagnostics(MLPQRNetwork(4, 3), [states]).measure()
