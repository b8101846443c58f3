"""The maths of the quantile family: by hand, against slow references, and its properties."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tm_torchrl.objectives import functional
from tm_torchrl.objectives.functional import (
    fraction_loss,
    log_policy,
    munchausen_bonus,
    quantile_huber_loss,
    soft_value,
)
from tm_torchrl.objectives.huber import PairwiseHuber, SortedHuber

FORMS = ("pairs", "sorted")


def huber(u: Tensor, kappa: float) -> Tensor:
    """Equation 2 of the IQN paper over kappa; the limit |u| at 0."""
    if kappa == 0:
        return u.abs()
    return torch.where(u.abs() <= kappa, 0.5 * u**2, kappa * (u.abs() - 0.5 * kappa)) / kappa


@pytest.mark.parametrize("form", FORMS)
def test_huber_by_hand(form: str) -> None:
    # u = 3, 1/2, -1/2, -4 with kappa 1: Huber 2.5, 0.125, 0.125, 3.5; slopes 1, 0.5, 0.5, 1.
    value = torch.tensor([[1.0]], requires_grad=True)
    loss = quantile_huber_loss(value, torch.tensor([[0.25]]), torch.tensor([[4.0, 0.5, -3.0, 1.5]]), form=form)
    loss.sum().backward()
    assert loss.tolist() == [(0.25 * (2.5 + 0.125) + 0.75 * (0.125 + 3.5)) / 4]
    assert value.grad.tolist() == [[(-0.25 * (1 + 0.5) + 0.75 * (0.5 + 1)) / 4]]


@pytest.mark.parametrize("form", FORMS)
def test_huber_sums_online_and_averages_targets(form: str) -> None:
    # kappa 2. value 0: u = 1, 4: Huber/kappa 1/4, 3; value 2: u = -1, 2: 1/4, 1.
    value, fractions = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.25, 0.75]])
    loss = quantile_huber_loss(value, fractions, torch.tensor([[1.0, 4.0]]), kappa=2.0, form=form)
    assert loss.tolist() == [(0.25 * (0.25 + 3) + 0.25 * 0.25 + 0.75 * 1) / 2]


@pytest.mark.parametrize("form", FORMS)
def test_kappa_zero_is_the_pinball_loss(form: str) -> None:
    value = torch.tensor([[1.0]], requires_grad=True)
    loss = quantile_huber_loss(value, torch.tensor([[0.25]]), torch.tensor([[3.0, 0.0, -3.0]]), kappa=0.0, form=form)
    loss.sum().backward()
    assert loss.item() == pytest.approx((0.25 * 2 + 0.75 * 1 + 0.75 * 4) / 3, rel=1e-6)
    assert value.grad.item() == pytest.approx((-0.25 + 0.75 + 0.75) / 3, rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_small_kappa_approaches_the_pinball_loss(form: str) -> None:
    # Huber_kappa(u) / kappa = |u| - kappa / 2 for |u| > kappa: the difference of the losses is kappa / 2 times the
    # summed weights, which is here 0.25 for the two above and 0.75 for the one below, averaged over 3.
    arguments = torch.tensor([[1.0]]).double(), torch.tensor([[0.25]]), torch.tensor([[3.0, 2.0, -3.0]])
    pinball = quantile_huber_loss(*arguments, kappa=0.0, form=form)
    for kappa in (1e-2, 1e-4, 1e-6):
        difference = pinball - quantile_huber_loss(*arguments, kappa=kappa, form=form)
        assert difference.item() == pytest.approx(kappa / 2 * (0.25 + 0.25 + 0.75) / 3, rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fraction", [0.05, 0.33, 0.5, 0.9])
def test_the_minimiser_is_the_quantile(form: str, fraction: float) -> None:
    target = torch.randn(1, 101, generator=torch.Generator().manual_seed(1)).double()
    candidates = target[0].unsqueeze(1)  # the loss is linear between targets, so its minimum lies at one
    fractions = torch.full_like(candidates, fraction)
    loss = quantile_huber_loss(candidates, fractions, target.expand(101, -1), kappa=0.0, form=form)
    best = candidates[loss.argmin(), 0]
    assert best == target.sort().values[0, math.ceil(fraction * 101) - 1]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, float, Tensor]:
    """Values, fractions, targets, kappa, weights of the samples: many sizes, with ties, in float64."""
    batch, num_values, num_targets = draw(st.integers(1, 4)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    scale = draw(st.sampled_from([1e-2, 1.0, 30.0]))

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).double()

    value, target = normal(batch, num_values) * scale, normal(batch, num_targets) * scale
    if draw(st.booleans()):  # ties among all, and values that are targets: multiples of 1/2
        value, target = (value * 2).round() / 2, (target * 2).round() / 2
    kappa = draw(st.sampled_from([0.0, 5e-3, 0.5, 1.0, 7.3]))
    offset = draw(st.sampled_from([0.0, 1000.0]))
    value, target = value + offset, target + offset
    fractions = torch.rand(batch, num_values, generator=generator).double()
    return value, fractions, target, kappa, normal(batch)


def closed_form_reference(
    value: Tensor, fractions: Tensor, target: Tensor, kappa: float, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, gradient of sum(weights * loss), and the sizes of the terms of both, in float64."""
    u = target.double()[:, None, :] - value.double()[:, :, None]
    weight = (fractions.double()[:, :, None] - (u < 0).double()).abs()
    slope = u.sign() if kappa == 0 else (u / kappa).clamp(-1, 1)
    terms = weight * huber(u, kappa)
    slopes = -weight * slope * weights[:, None, None].double()
    return terms.mean(2).sum(1), slopes.mean(2), terms.abs().mean(2).sum(1), slopes.abs().mean(2)


def both(
    form: str, value: Tensor, fractions: Tensor, target: Tensor, kappa: float, weights: Tensor
) -> tuple[Tensor, Tensor]:
    value = value.clone().requires_grad_()
    loss = quantile_huber_loss(value, fractions, target, kappa=kappa, form=form)
    (loss * weights.to(loss.dtype)).sum().backward()
    return loss.detach(), value.grad


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=150)
@given(problem=problems())
def test_against_the_reference_in_float64(form: str, problem: tuple[Tensor, Tensor, Tensor, float, Tensor]) -> None:
    loss, gradient, loss_size, gradient_size = closed_form_reference(*problem)
    found_loss, found_gradient = both(form, *problem)
    assert ((found_loss - loss).abs() <= 1e-6 * loss_size).all()
    assert ((found_gradient - gradient).abs() <= 1e-6 * gradient_size).all()


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=150)
@given(problem=problems())
def test_against_the_reference_in_float32(form: str, problem: tuple[Tensor, Tensor, Tensor, float, Tensor]) -> None:
    value, fractions, target, kappa, weights = problem
    # Rounded to float32 first: the reference sees the same numbers, so nothing but the arithmetic differs.
    value, target, fractions = value.float(), target.float(), fractions.float()
    loss, gradient, loss_size, gradient_size = closed_form_reference(value, fractions, target, kappa, weights)
    found_loss, found_gradient = both(form, value, fractions, target, kappa, weights)
    assert found_loss.dtype == found_gradient.dtype == torch.float32
    assert ((found_loss - loss).abs() <= 1e-4 * loss_size).all()
    assert ((found_gradient - gradient).abs() <= 1e-4 * gradient_size).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_the_loss(form: str) -> None:
    generator = torch.Generator().manual_seed(0)
    value, target = (torch.randn(3, n, generator=generator).double() for n in (5, 7))
    fractions = torch.rand(3, 5, generator=generator).double()
    assert torch.autograd.gradcheck(
        lambda v: quantile_huber_loss(v, fractions, target, kappa=0.5, form=form), value.requires_grad_()
    )


def random_problem(*, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Values ``[3, 5]``, fractions and targets ``[3, 7]`` in float64."""
    generator = torch.Generator().manual_seed(seed)
    value, target = (torch.randn(3, n, generator=generator).double() for n in (5, 7))
    return value.requires_grad_(), torch.rand(3, 5, generator=generator).double(), target


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
def test_second_derivatives(form: str, kappa: float) -> None:
    value, *constants = random_problem()
    assert torch.autograd.gradgradcheck(lambda v: quantile_huber_loss(v, *constants, kappa=kappa, form=form), value)


def test_second_derivative_by_hand() -> None:
    # u = 1/2 and 3 with kappa 2: the first lies in the square part, whose second derivative is 1 / kappa. Of the masked
    # sample comes nothing, though it is broken.
    value = torch.tensor([[0.0], [float("nan")]], requires_grad=True)
    target = torch.tensor([[0.5, 3.0]]).expand(2, 2)
    loss = quantile_huber_loss(value, torch.full((2, 1), 0.25), target, kappa=2.0)
    (first,) = torch.autograd.grad(torch.where(torch.tensor([True, False]), loss, 0.0).sum(), value, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), value)
    assert first.tolist() == [[-0.25 * (0.25 + 1) / 2], [0.0]]
    assert second.tolist() == [[0.25 * 0.5 / 2], [0.0]]


@pytest.mark.parametrize("kappa", [0.0, 0.3])
def test_transforms_of_torch_func(kappa: float) -> None:
    value, *constants = random_problem()
    value = value.detach()

    def loss(value: Tensor, fractions: Tensor, target: Tensor) -> Tensor:
        return quantile_huber_loss(value, fractions, target, kappa=kappa).sum()

    expected = value.clone().requires_grad_()
    loss(expected, *constants).backward()
    torch.testing.assert_close(torch.func.grad(loss)(value, *constants), expected.grad)
    each = torch.func.vmap(lambda *row: loss(*(part.unsqueeze(0) for part in row)))(value, *constants)
    torch.testing.assert_close(each, quantile_huber_loss(value, *constants, kappa=kappa))
    torch.testing.assert_close(torch.func.jacrev(loss)(value, *constants), expected.grad)
    hessian = torch.autograd.functional.hessian(lambda v: loss(v, *constants), value)
    torch.testing.assert_close(torch.func.hessian(loss)(value, *constants), hessian)


def test_targets_and_fractions_get_no_gradient() -> None:
    value, fractions, target = (torch.full((2, 3), 0.5, requires_grad=True) for _ in range(3))
    quantile_huber_loss(value, fractions, target + 1).sum().backward()
    assert value.grad is not None
    assert fractions.grad is None
    assert target.grad is None


def test_auto_takes_pairs_for_few_and_sorts_many(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    for form in (PairwiseHuber, SortedHuber):
        apply = form.apply
        monkeypatch.setattr(form, "apply", lambda *a, f=form, apply=apply: (taken.append(f), apply(*a))[1])
    for batch, num in ((32, 8), (256, 200)):
        quantile_huber_loss(torch.zeros(batch, num), torch.full((batch, num), 0.5), torch.zeros(batch, num))
    assert taken == [PairwiseHuber, SortedHuber]


def test_half_precision_comes_back_in_float32() -> None:
    value = torch.tensor([[1.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = quantile_huber_loss(value, torch.tensor([[0.5]]), torch.tensor([[1.25]]))
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert loss.item() == 0.5 * 0.5 * 0.25**2
    assert value.grad.item() == -0.5 * 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappa": -0.1}, r"kappa=-0\.1"),
        ({"form": "tree"}, "form='tree'"),
        ({"fractions_BN": torch.zeros(2, 4)}, r"value \(2, 3\), fractions \(2, 4\), target \(2, 5\)"),
        ({"target_BM": torch.zeros(1, 5)}, r"target \(1, 5\)"),
    ],
)
def test_errors(change: dict[str, object], message: str) -> None:
    arguments = {"value_BN": torch.zeros(2, 3), "fractions_BN": torch.full((2, 3), 0.5), "target_BM": torch.zeros(2, 5)}
    with pytest.raises(ValueError, match=message):
        quantile_huber_loss(**(arguments | change))


def test_log_policy_by_hand() -> None:
    # Values 0, ln 3 at temperature 1: weights 1 and 3. At temperature 1/2: 1 and 9.
    value = torch.tensor([0.0, math.log(3)])
    assert log_policy(value, 1.0).exp().tolist() == pytest.approx([0.25, 0.75], rel=1e-6)
    assert log_policy(value, 0.5).exp().tolist() == pytest.approx([0.1, 0.9], rel=1e-6)


def test_log_policy_survives_large_gaps() -> None:
    assert log_policy(torch.tensor([1000.0, 970.0]), 1 / 32).tolist() == [0.0, -960.0]


def test_soft_value_by_hand() -> None:
    # Policy 1/4, 3/4 and temperature 2: the entropy is (1/4) ln 4 + (3/4) ln (4/3).
    policy = torch.tensor([[0.25, 0.75]])
    value = torch.tensor([[[4.0, 8.0], [-4.0, 0.0]]])
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert soft_value(value, policy.log(), 2.0)[0].tolist() == pytest.approx(
        [7 + 2 * entropy, -1 + 2 * entropy], rel=1e-6
    )


def test_soft_value_of_slots() -> None:
    value = torch.arange(24.0).view(2, 3, 2, 2)  # B, N, S, A
    policy = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]).expand(2, -1, -1).clamp(min=1e-30)
    found = soft_value(value, policy.log(), 1.0)
    expected = torch.stack([value[:, :, 0, 0], value[:, :, 1].mean(-1) + math.log(2)], -1)
    assert torch.allclose(found, expected, rtol=1e-6)


def test_soft_value_at_low_temperature_is_the_maximum() -> None:
    value = torch.tensor([[[1.0, 1.5, 0.0]]])
    temperature = 0.01  # the policy is e^-50 from greedy
    assert soft_value(value, log_policy(value.mean(1), temperature), temperature).item() == pytest.approx(1.5, rel=1e-6)


@pytest.mark.parametrize(
    ("clip_on", "expected"),
    [
        # alpha 1/2, temperature 1/4, clip -1; log policies 0, -2, -6, -40.
        ("scaled", [0.0, 0.5 * -0.5, 0.5 * -1.0, 0.5 * -1.0]),  # 1/4 of them: 0, -0.5, -1.5, -10
        ("log_policy", [0.0, 0.125 * -1.0, 0.125 * -1.0, 0.125 * -1.0]),
        ("bonus", [0.0, 0.125 * -2, 0.125 * -6, -1.0]),  # 1/8 of them: 0, -0.25, -0.75, -5
    ],
)
def test_munchausen_bonus_by_hand(clip_on: str, expected: list[float]) -> None:
    log_policies = torch.tensor([0.0, -2.0, -6.0, -40.0])
    assert munchausen_bonus(log_policies, alpha=0.5, temperature=0.25, clip=-1.0, clip_on=clip_on).tolist() == expected


def test_munchausen_bonus_names_its_readings() -> None:
    with pytest.raises(ValueError, match="clip_on='all'"):
        munchausen_bonus(torch.zeros(1), clip_on="all")


def test_fraction_loss_by_hand() -> None:
    # F = 0, 2, 10 at the middles; 1 and 4 at the inner edges: |1 - 0| - |1 - 2| = 0, |4 - 2| - |4 - 10| = -4.
    edges = torch.tensor([[0.0, 0.25, 0.75, 1.0]], requires_grad=True)
    loss = fraction_loss(edges, torch.tensor([[0.0, 2.0, 10.0]]), torch.tensor([[1.0, 4.0]]))
    loss.sum().backward()
    assert loss.tolist() == [-4 * 0.75]
    assert edges.grad.tolist() == [[0.0, 0.0, -4.0, 0.0]]


def test_fraction_loss_of_crossing_quantiles() -> None:
    # F = 3 then 1 at the middles, 0 at the edge between: |0 - 3| - |0 - 1| = 2.
    edges = torch.tensor([[0.0, 0.5, 1.0]], requires_grad=True)
    fraction_loss(edges, torch.tensor([[3.0, 1.0]]), torch.tensor([[0.0]])).sum().backward()
    assert edges.grad.tolist() == [[0.0, 2.0, 0.0]]


def quantile_function(fractions: Tensor) -> Tensor:
    return (2 * fractions).exp() + 5 * fractions


def wasserstein(edges: Tensor, *, num_points: int = 20_000) -> Tensor:
    """Integral of |F - F(middle of the part)|, each half part by the midpoint rule."""
    total = torch.zeros((), dtype=torch.float64)
    for low, high in itertools.pairwise(edges):
        middle = (low + high) / 2
        for start, end in ((low, middle), (middle, high)):
            points = start + (end - start) * (torch.arange(num_points).double() + 0.5) / num_points
            total += (quantile_function(points) - quantile_function(middle)).abs().mean() * (end - start)
    return total


def test_fraction_loss_has_the_gradient_of_the_wasserstein_distance() -> None:
    edges = torch.tensor([0.0, 0.2, 0.5, 0.6, 1.0], dtype=torch.float64, requires_grad=True)
    middles = (edges[1:] + edges[:-1]).detach() / 2
    fraction_loss(edges[None], quantile_function(middles)[None], quantile_function(edges[1:-1])[None]).sum().backward()
    step = 1e-4
    for i in (1, 2, 3):
        up, down = edges.detach().clone(), edges.detach().clone()
        up[i] += step
        down[i] -= step
        slope = (wasserstein(up) - wasserstein(down)) / (2 * step)
        assert edges.grad[i].item() == pytest.approx(slope.item(), rel=1e-4)


def test_every_function_is_tested_here() -> None:
    public = {
        name for name, thing in vars(functional).items() if getattr(thing, "__module__", "") == functional.__name__
    }
    assert {name for name in public if not name.startswith("_")} <= set(globals())
