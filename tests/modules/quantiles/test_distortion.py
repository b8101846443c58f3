"""Risk distortions against their formulas, and their inverses."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch

from tm_torchrl.modules import CPW, CVaR, Power, RiskDistortion, Wang
from tm_torchrl.modules.quantiles.network import mean_over_fractions

ALL = [
    CVaR(0.25),
    CVaR(1.0),
    Wang(-0.75),
    Wang(0.75),
    CPW(0.71),
    CPW(0.3),
    CPW(1.0),
    Power(-2.0),
    Power(0.0),
    Power(3.0),
]
every_distortion = pytest.mark.parametrize("distortion", ALL, ids=lambda d: f"{type(d).__name__}({d.eta})")
GRID = torch.linspace(0, 1, 101, dtype=torch.float64)


@every_distortion
def test_inverse(distortion: RiskDistortion) -> None:
    # Bisection stops after 30 halvings.
    assert (distortion.inverse(distortion(GRID)) - GRID).abs().max() < 2**-29


@every_distortion
def test_is_monotone_from_0(distortion: RiskDistortion) -> None:
    found = distortion(GRID)
    assert found[0] == 0
    assert (found.diff() > 0).all()
    assert found[-1] == pytest.approx(distortion.eta if isinstance(distortion, CVaR) else 1)


@every_distortion
def test_weights_sum_to_one(distortion: RiskDistortion) -> None:
    edges = torch.tensor([[0.0, 0.1, 0.15, 0.6, 1.0], [0.0, 0.25, 0.5, 0.75, 1.0]])
    weights = distortion.weights(edges)
    assert weights.shape == (2, 4)
    assert (weights >= 0).all()
    assert weights.sum(-1).tolist() == pytest.approx([1, 1], rel=1e-6)


@pytest.mark.parametrize("distortion", [CVaR(1.0), Wang(0.0), CPW(1.0), Power(0.0)])
def test_neutral(distortion: RiskDistortion) -> None:
    assert torch.allclose(distortion(GRID), GRID, rtol=1e-12, atol=1e-12)


def test_cvar_by_hand() -> None:
    # Quantiles 1, 2, 3, 4 of equal parts: the worst 3/8 are all of the 1s and half of the 2s.
    values, edges = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]), torch.linspace(0, 1, 5).unsqueeze(0)
    distortion = CVaR(3 / 8)
    assert distortion.weights(edges)[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0], rel=1e-6)
    found = mean_over_fractions(values, distortion.inverse(edges))
    assert found.item() == pytest.approx((1 * 2 / 8 + 2 * 1 / 8) / (3 / 8), rel=1e-6)


def test_formulas() -> None:
    for fraction in (0.1, 0.5, 0.8):
        point, normal = torch.tensor([fraction], dtype=torch.float64), NormalDist()
        wang = normal.cdf(normal.inv_cdf(fraction) - 0.75)
        assert Wang(-0.75)(point).item() == pytest.approx(wang, rel=1e-9)
        cpw = fraction**0.71 / (fraction**0.71 + (1 - fraction) ** 0.71) ** (1 / 0.71)
        assert CPW(0.71)(point).item() == pytest.approx(cpw, rel=1e-12)
        assert Power(-2.0)(point).item() == pytest.approx(1 - (1 - fraction) ** (1 / 3), rel=1e-12)
        assert Power(2.0)(point).item() == pytest.approx(fraction ** (1 / 3), rel=1e-12)
