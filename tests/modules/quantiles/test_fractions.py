"""Fractions: their ranges and laws, and their cosines."""

from __future__ import annotations

import math

import pytest
import torch

from tm_torchrl.modules import (
    CosineEmbedding,
    FractionProposal,
    FractionSource,
    MidpointFractions,
    StratifiedFractions,
    UniformFractions,
)
from tm_torchrl.modules.quantiles.embedding import unexpanded
from tm_torchrl.modules.quantiles.fractions import midpoints

SOURCES = [UniformFractions, StratifiedFractions]


@pytest.mark.parametrize("drawn", [0.0, 1 - 2**-24])  # the least and the largest number that torch.rand gives
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("num", [2, 8, 512])
def test_never_0_or_1(source: type[FractionSource], num: int, drawn: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, device=None: torch.full(shape, drawn))
    fractions = source()((3,), num)
    assert ((fractions > 0) & (fractions < 1)).all()


def test_uniform_law() -> None:
    torch.manual_seed(0)
    counts = torch.histc(UniformFractions()((100,), 400), 10, 0, 1)
    assert float(((counts - 4000) ** 2 / 4000).sum()) < 27.9  # 9 degrees of freedom: exceeded once in 1000 seeds


@pytest.mark.parametrize("num", [2, 8, 64])
def test_stratified_draws_lie_in_their_parts_and_mirror(num: int) -> None:
    torch.manual_seed(0)
    fractions = StratifiedFractions()((1000,), num)
    low, high = fractions.chunk(2, -1)
    assert torch.equal(high, 1 - low)
    assert torch.equal((low * num).floor(), torch.arange(num // 2).expand_as(low).float())
    # Within a part they are uniform: mean 1/2 with deviation sqrt(1 / 12 / 1000) = 0.009; 4 deviations are allowed.
    assert ((low * num).frac().mean(0) - 0.5).abs().max() < 4 * math.sqrt(1 / 12 / 1000)


@pytest.mark.parametrize("source", SOURCES)
def test_shared_or_not(source: type[FractionSource]) -> None:
    shared, own = source(shared=True)((2, 5), 8), source()((2, 5), 8)
    assert shared.shape == own.shape == (2, 5, 8)
    assert shared.stride()[:2] == (0, 0)
    assert len(own.reshape(10, 8).unique(dim=0)) == 10


def test_midpoints() -> None:
    assert midpoints(2).tolist() == [0.25, 0.75]
    assert torch.equal(MidpointFractions()((3,), 5), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]).expand(3, 5))


def test_a_proposal_by_hand() -> None:
    proposal = FractionProposal(1, 3)
    proposal.logits.weight.data.zero_()
    proposal.logits.bias.data = torch.tensor([1.0, 2.0, 5.0]).log()  # parts 1/8, 2/8, 5/8
    found = proposal(torch.zeros(1, 1))
    assert found.edges[0].tolist() == pytest.approx([0, 1 / 8, 3 / 8, 1], rel=1e-6)
    assert found.fractions[0].tolist() == pytest.approx([1 / 16, 1 / 4, 11 / 16], rel=1e-6)
    entropy = (math.log(8) + 2 * math.log(4) + 5 * math.log(8 / 5)) / 8
    assert found.entropy.item() == pytest.approx(entropy, rel=1e-6)


def test_a_proposal_of_extreme_logits_has_edges_in_order() -> None:
    proposal = FractionProposal(1, 4)
    proposal.logits.bias.data = torch.tensor([-1e4, 1e4, -1e4, 1e4])
    found = proposal(torch.zeros(1, 1))
    assert (found.edges.diff() >= 0).all()
    assert found.edges[0, [0, -1]].tolist() == [0.0, 1.0]
    assert found.entropy.item() == pytest.approx(math.log(2), rel=1e-6)
    with pytest.raises(ValueError, match="num_fractions=1"):
        FractionProposal(4, 1)


@pytest.mark.parametrize("first_frequency", [0, 1])
def test_embedding_by_hand(first_frequency: int) -> None:
    # 1/3 of 0, 180, 360, 540 degrees: 0, 60, 120, 180.
    expected = [1.0, 0.5, -0.5, -1.0][first_frequency : first_frequency + 3]
    found = CosineEmbedding(3, first_frequency=first_frequency)(torch.tensor([[1 / 3]]))
    assert found.shape == (1, 1, 3)
    assert found[0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_shared_fractions_are_embedded_once() -> None:
    shared, own = StratifiedFractions(shared=True)((5,), 8), StratifiedFractions()((5,), 8)
    assert unexpanded(shared).shape == (1, 8)
    assert unexpanded(own) is own
