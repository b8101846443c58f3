"""Heads, decoders and conditionings: by hand, and quantiles that never cross."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tm_torchrl.modules import (
    CosineEmbedding,
    Decoder,
    DuelingDecoder,
    FiLM,
    FixedHead,
    Hadamard,
    ImplicitHead,
    MonotoneHead,
)
from tm_torchrl.modules.quantiles.fractions import midpoints


class Given(nn.Module):
    """A decoder with given outputs [B, K + 2, A]."""

    def __init__(self, raw: Tensor) -> None:
        super().__init__()
        self.raw = raw
        self.output_shape = tuple(raw.shape[1:])

    def forward(self, features: Tensor) -> Tensor:
        return self.raw


def inverse_softplus(increments: list[float]) -> list[float]:
    return torch.tensor(increments, dtype=torch.float64).expm1().log().tolist()


def test_monotone_by_hand() -> None:
    # Knots 0, 1/4, 3/4, 1; increments 2, 4, 6, halved (K = 2): heights 0, 1, 3, 6, whose mean is
    # (0.5 + 0 + ...): 1/4 * 0.5 + 1/2 * 2 + 1/4 * 4.5 = 2.25. Location 10.
    raw = torch.tensor([[10.0, *inverse_softplus([2.0, 4.0, 6.0])]]).unsqueeze(-1)
    values = MonotoneHead(Given(raw))(torch.zeros(1, 1), torch.tensor([[0.125, 0.25, 0.5, 0.75, 0.875]]))
    heights = [0.5, 1.0, 2.0, 3.0, 4.5]
    assert values[0, :, 0].tolist() == pytest.approx([10 + height - 2.25 for height in heights], rel=1e-6)


@st.composite
def extreme_heads(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Raw outputs [1, K + 2, A] whose increments lie between 1e-30 and 1e30, and sorted fractions with knots."""
    num_knots, num_actions = draw(st.integers(1, 40)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 100_000)))
    shape = (1, num_knots + 2, num_actions)
    exponent = torch.rand(shape, generator=generator).double() * 60 - 30
    width = draw(st.sampled_from([0.0, 0.1, 1.0]))  # of the range of exponents
    increments = 10 ** (exponent * width + draw(st.floats(-30, 30)) * (1 - width))
    raw = torch.where(increments < 30, increments.clamp(min=1e-30).expm1().log(), increments)
    raw[:, 0] = draw(st.sampled_from([0.0, 1.0, -1e4, 1e30]))
    fractions = torch.rand(1, 200, generator=generator)
    knots = midpoints(num_knots)
    around = [knots, knots.nextafter(torch.ones(())), knots.nextafter(torch.zeros(()))]
    ends = torch.tensor([1e-45, 2**-25, 1 - 2**-24])
    return raw.float(), torch.cat([fractions, torch.cat([*around, ends]).unsqueeze(0)], -1).sort().values


@settings(max_examples=300)
@given(case=extreme_heads())
def test_quantiles_never_cross(case: tuple[Tensor, Tensor]) -> None:
    raw, fractions = case
    values = MonotoneHead(Given(raw))(torch.zeros(1, 1), fractions)
    assert values.isfinite().all()
    assert int((values[:, 1:] < values[:, :-1]).sum()) == 0


@settings(max_examples=100)
@given(num_knots=st.integers(1, 40), seed=st.integers(0, 1000))
def test_the_location_is_the_mean(num_knots: int, seed: int) -> None:
    raw = torch.randn(2, num_knots + 2, 3, generator=torch.Generator().manual_seed(seed)) * 3
    # Parts begin at multiples of 1 / 2K, so the midpoint rule on a grid that contains these is exact.
    grid = midpoints(2 * num_knots * 8).expand(2, -1)
    mean = MonotoneHead(Given(raw))(torch.zeros(2, 1), grid).mean(1)
    scale = raw[:, 1:].clamp(min=1).sum(1)
    assert ((mean - raw[:, 0]).abs() <= 1e-5 * scale).all()


def test_every_output_of_a_monotone_head_has_a_gradient() -> None:
    raw = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    values = MonotoneHead(Given(raw))(torch.zeros(1, 1), midpoints(4).expand(1, 4))
    (values * torch.tensor([1.0, -2.0, 3.0, 5.0]).view(1, 4, 1)).sum().backward()
    assert (raw.grad != 0).all()


def test_a_fixed_head_has_its_own_fractions() -> None:
    head = FixedHead(Decoder(4, 2, num_outputs=8, num_slots=3))
    assert torch.equal(head.fractions, midpoints(8))
    assert head(torch.zeros(5, 4), head.fractions.expand(5, 8)).shape == (5, 8, 3, 2)
    with pytest.raises(ValueError, match="fractions: 7 "):
        head(torch.zeros(5, 4), torch.zeros(5, 7))


def test_implicit_by_hand() -> None:
    # One cosine, two features, Hadamard with weights 1, 2 and bias 0.5: features times leaky(c + 0.5, 2c + 0.5).
    head = ImplicitHead(CosineEmbedding(1), Hadamard(1, 2), Decoder(2, 1, hidden_size=None))
    with torch.no_grad():
        head.conditioning.projection[0].weight.copy_(torch.tensor([[1.0], [2.0]]))
        head.conditioning.projection[0].bias.fill_(0.5)
        head.decoder.advantage[0].weight.fill_(1.0)
    values = head(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.5, 1 / 3, 2 / 3]]))  # cosines 0, 1/2, -1/2
    expected = [3 * 0.5 + 4 * 0.5, 3 * 1.0 + 4 * 1.5, 3 * 0.0 + 4 * 0.01 * -0.5]
    assert values[0, :, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_film_by_hand() -> None:
    film = FiLM(1, 2)
    with torch.no_grad():
        film.projection[0].weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    found = film(torch.tensor([[[10.0, 20.0]]]), torch.tensor([[[0.5]]]))  # scales 0.5, 1, shifts 1.5, 2
    assert found.tolist() == [[[10 * 1.5 + 1.5, 20 * 2 + 2]]]


@pytest.mark.parametrize("conditioning", [Hadamard, FiLM])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_shared_fractions_give_the_values_of_expanded_ones(conditioning: type[nn.Module], num_layers: int) -> None:
    head = ImplicitHead(CosineEmbedding(8), conditioning(8, 16, num_layers=num_layers), DuelingDecoder(16, 3))
    features, fractions = torch.randn(5, 16), torch.rand(1, 4)
    own = head(features, fractions.expand(5, 4).contiguous())
    assert torch.allclose(head(features, fractions.expand(5, 4)), own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_outputs", [None, 4])
@pytest.mark.parametrize("num_slots", [None, 2])
def test_dueling_by_hand(num_outputs: int | None, num_slots: int | None) -> None:
    decoder = DuelingDecoder(16, 3, num_outputs=num_outputs, num_slots=num_slots, hidden_size=8)
    features = torch.randn(5, 16)
    value, advantage = decoder.value(features), decoder.advantage(features)
    found = decoder(features).reshape(5, num_outputs or 1, num_slots or 1, 3)
    advantage = advantage.reshape(5, num_outputs or 1, num_slots or 1, 3)
    mean = (advantage[..., 0] + advantage[..., 1] + advantage[..., 2]) / 3
    expected = value.reshape(5, -1, 1, 1) + advantage - mean.unsqueeze(-1)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
