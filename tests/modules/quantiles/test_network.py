"""The networks: shapes, acting, slots, sizes, first weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tm_torchrl.modules import (
    Decoder,
    DuelingDecoder,
    FiLM,
    FixedHead,
    MidpointFractions,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPNQNetwork,
    MLPQRNetwork,
    NoisyLinear,
    Normalize,
    PixelEncoder,
    QuantileNetwork,
    StratifiedFractions,
)
from tm_torchrl.modules.quantiles.fractions import midpoints

NETWORKS = [MLPIQNetwork, MLPFQFNetwork, MLPQRNetwork, MLPNQNetwork]
every_network = pytest.mark.parametrize("network_class", NETWORKS)


def small(network_class: type[QuantileNetwork], **options: Any) -> QuantileNetwork:
    torch.manual_seed(0)
    sizes = {"num_inputs": 4, "num_actions": 3, "hidden_sizes": (16,), "head_size": 8, "num_fractions": 6}
    weights = {"initialization": "orthogonal"}  # with torch's own, actions hardly depend on what is seen
    return network_class(**(sizes | weights | options))


@every_network
@pytest.mark.parametrize("num_slots", [None, 2])
@pytest.mark.parametrize("dueling", [False, True])
def test_shapes(network_class: type[QuantileNetwork], num_slots: int | None, dueling: bool) -> None:
    network = small(network_class, num_slots=num_slots, dueling=dueling)
    slots = () if num_slots is None else (num_slots,)
    observation = torch.randn(5, 4)
    torch.manual_seed(1)
    values = network(observation)
    torch.manual_seed(1)
    assert torch.equal(values, network.quantiles(observation).values.movedim(1, -1))
    assert values.shape == (5, *slots, 3, 6)
    assert network.act(torch.randn(4)).shape == slots
    assert network.act(torch.randn(2, 5, 4)).shape == (2, 5, *slots)
    quantiles = network.quantiles(observation)
    assert quantiles.values.shape == (5, 6, *slots, 3)
    assert quantiles.fractions.shape == (5, 6)
    assert quantiles.mean().shape == (5, *slots, 3)


@every_network
@pytest.mark.parametrize("num_slots", [None, 2])
def test_acts_by_the_mean(network_class: type[QuantileNetwork], num_slots: int | None) -> None:
    network, observation = small(network_class, num_slots=num_slots), torch.randn(50, 4)
    torch.manual_seed(1)
    action = network.act(observation)
    torch.manual_seed(1)
    quantiles = network.quantiles(observation)
    widths = torch.full((50, 6), 1 / 6) if quantiles.edges is None else quantiles.edges.diff()
    mean = sum(quantiles.values[:, i] * widths[:, i].view(-1, *(1,) * (quantiles.values.ndim - 2)) for i in range(6))
    assert torch.equal(action, mean.argmax(-1))
    assert not action.requires_grad
    assert len(action.unique()) > 1


@every_network
def test_given_fractions_are_used_unless_they_are_fixed(network_class: type[QuantileNetwork]) -> None:
    fractions = torch.rand(5, 9)
    quantiles = small(network_class).quantiles(torch.randn(5, 4), fractions=fractions)
    is_fixed = network_class is MLPQRNetwork
    assert torch.equal(quantiles.fractions, midpoints(6).expand(5, 6) if is_fixed else fractions)
    assert quantiles.values.shape == (5, 6 if is_fixed else 9, 3)


@pytest.mark.parametrize("num_asked", [1, 6, 33])
def test_non_crossing_at_any_fractions(num_asked: int) -> None:
    network = small(MLPNQNetwork)
    values = network(10 * torch.randn(50, 4), fractions=torch.rand(50, num_asked).sort().values)
    assert int((values.diff(dim=-1) < 0).sum()) == 0


def test_fixed_fractions_are_those_of_the_head() -> None:
    head = FixedHead(Decoder(16, 3, num_outputs=6))
    assert QuantileNetwork(nn.Linear(4, 16), head, num_fractions=99).num_fractions == 6


@pytest.mark.parametrize("source", [StratifiedFractions(shared=True), MidpointFractions()])
def test_shared_fractions_of_a_network(source: nn.Module) -> None:
    network = small(MLPIQNetwork, source=source)
    fractions = network.quantiles(torch.randn(5, 4)).fractions
    assert fractions.shape == (5, 6)
    assert len(fractions.unique(dim=0)) == 1


def test_pixels_are_scaled() -> None:
    encoder = PixelEncoder(image_size=36)
    encoder.layers = nn.Flatten()
    found = encoder(torch.tensor([0, 64, 128, 255], dtype=torch.uint8).view(1, 1, 2, 2))
    assert found.tolist() == [[-1.0, -0.5, 0.0, 127 / 128]]


def test_first_weights() -> None:
    # Orthogonal with the gain of a leaky ReLU; sqrt(2) times it for cosines; 1 for outputs.
    network = small(MLPIQNetwork, hidden_sizes=(64,), head_size=64, num_cosines=64)
    gain = math.sqrt(2 / (1 + 0.01**2))
    decoder = network.head.decoder
    for layer, expected in (
        (network.encoder.layers[0], gain),
        (network.head.conditioning.projection[0], gain * math.sqrt(2)),
        (decoder.value[0], gain),
        (decoder.advantage[0], gain),
        (decoder.value[2], 1.0),
        (decoder.advantage[2], 1.0),
    ):
        assert torch.linalg.svdvals(layer.weight).tolist() == pytest.approx(
            [expected] * min(layer.weight.shape), rel=1e-5
        )
        assert not layer.bias.any()


def test_parts_are_arguments() -> None:
    def ones(module: nn.Module, gain: float) -> None:
        nn.init.ones_(module.weight)

    network = small(MLPIQNetwork, initialization=ones)
    assert all(bool((m.weight == 1).all()) for m in network.modules() if isinstance(m, nn.Linear))
    torch_own = MLPIQNetwork(4, 3).encoder.layers[0]
    assert bool(torch_own.bias.any())
    with pytest.raises(ValueError, match=r"initialization='othogonal': unknown; did you mean orthogonal\?"):
        small(MLPIQNetwork, initialization="othogonal")
    assert isinstance(small(MLPIQNetwork, conditioning=FiLM).head.conditioning, FiLM)
    of_the_paper = small(MLPQRNetwork, head_size=None, dueling=False).head.decoder
    assert [type(layer) for layer in of_the_paper.advantage] == [nn.Linear]


@pytest.mark.parametrize(("noisy_value", "expected"), [(False, 2), ("hidden", 3), (True, 4)])
@every_network
def test_options(network_class: type[QuantileNetwork], noisy_value: bool, expected: int) -> None:
    network = small(
        network_class,
        layer_norm=True,
        linear=NoisyLinear,
        noisy_value=noisy_value,
        activation=nn.Tanh,
        normalize=Normalize([0.0] * 4, [2.0] * 4),
    )
    kinds = [type(module) for module in network.modules()]
    assert nn.LayerNorm in kinds
    assert nn.Tanh in kinds
    assert nn.LeakyReLU not in kinds
    assert kinds.count(NoisyLinear) == expected  # of two layers in each of two streams
    assert network(torch.randn(5, 4)).shape == (5, 3, 6)


def test_small_gaps_between_actions_survive_bfloat16() -> None:
    """At -4 bfloat16 has steps of 1/64 = 0.0156: a gap of 0.004 between two actions would be rounded away."""
    decoder = DuelingDecoder(4, 2, hidden_size=4)
    with torch.no_grad():
        for stream in (decoder.advantage, decoder.value):
            stream[-1].weight.zero_()
        decoder.value[-1].bias.fill_(-4.01)
        decoder.advantage[-1].bias.copy_(torch.tensor([0.002, -0.002]))
        with torch.autocast("cpu", torch.bfloat16):
            values = decoder(torch.zeros(1, 4))
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, torch.tensor([[-4.008, -4.012]]), atol=1e-5, rtol=0)


def test_hidden_columns_change_nothing() -> None:
    normalize = Normalize([0.0] * 4, [1.0] * 4, columns=[1, 3])
    network = MLPIQNetwork(4, 3, hidden_sizes=(8,), head_size=8, normalize=normalize).eval()
    fractions = torch.full((1, 2), 0.5)
    before = network(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), fractions=fractions)
    hidden = network(torch.tensor([[9.0, 2.0, -9.0, 4.0]]), fractions=fractions)
    seen = network(torch.tensor([[1.0, 2.5, 3.0, 4.0]]), fractions=fractions)
    assert torch.equal(before, hidden)
    assert not torch.equal(before, seen)
    assert normalize.num_outputs == 2
