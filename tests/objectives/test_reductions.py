"""Means, sums, importance weights, masks and priorities of losses."""

from __future__ import annotations

import pytest
import torch

from tests.objectives.cases import assert_equal, every_estimator, every_network, losses_of, make_batch, make_loss
from tm_torchrl.modules import MLPIQNetwork, MLPQRNetwork, QuantileNetwork
from tm_torchrl.objectives import IQNLoss, QRDQNLoss, SelfLossNormalizer
from tm_torchrl.objectives.functional import quantile_huber_loss
from tm_torchrl.objectives.quantile_loss import QuantileLoss

LossClass = type[QuantileLoss]
NetworkClass = type[QuantileNetwork]
MASK = torch.tensor([[True, False, True], [True, True, False]])
WEIGHTS = torch.tensor([[0.5, 1.0, 2.0], [4.0, 0.25, 8.0]])


@every_network
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_reductions(loss_class: LossClass, network_class: NetworkClass, is_masked: bool, is_weighted: bool) -> None:
    batch, each = make_batch(2, 3), make_loss(loss_class, network_class, reduction="none")
    terms = losses_of(each, batch)
    mask = MASK if is_masked else torch.ones(2, 3, dtype=torch.bool)
    weights = WEIGHTS if is_weighted else torch.ones(2, 3)
    if is_masked:
        batch["collector", "mask"] = mask
    if is_weighted:
        batch["priority_weight"] = weights
    found = {kind: losses_of(make_loss(loss_class, network_class, reduction=kind), batch) for kind in ("mean", "sum")}
    for key, term in terms.items():
        kept = weights * mask
        assert term.shape == (2, 3)
        assert torch.equal(losses_of(each, batch)[key], term * kept)
        assert torch.allclose(found["sum"][key], (term * kept).sum(), rtol=1e-6, atol=0)
        assert torch.allclose(found["mean"][key], (term * kept).sum() / kept.sum(), rtol=1e-6, atol=0)


def test_a_masked_sample_may_be_broken() -> None:
    batch = make_batch(2, 3)
    batch["collector", "mask"] = MASK
    loss = make_loss(IQNLoss, MLPIQNetwork)
    loss(batch)  # so that the checks of the first batch are done
    expected = losses_of(loss, batch)
    broken = batch.clone()
    broken["next", "reward"][~MASK] = float("nan")
    assert_equal(losses_of(loss, broken), expected)
    loss.zero_grad()
    loss(broken)["loss"].backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in loss.parameters())


def test_weights_can_be_left_out_or_demanded() -> None:
    batch = make_batch(5)
    plain = losses_of(make_loss(IQNLoss, MLPIQNetwork), batch)
    demanding = make_loss(IQNLoss, MLPIQNetwork, use_prioritized_weights=True)
    with pytest.raises(KeyError, match=r"use_prioritized_weights=True: .*'priority_weight'"):
        demanding(batch)
    batch["priority_weight"] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    assert_equal(losses_of(make_loss(IQNLoss, MLPIQNetwork, use_prioritized_weights=False), batch), plain)
    weighted = losses_of(make_loss(IQNLoss, MLPIQNetwork), batch)
    assert_equal(losses_of(demanding, batch), weighted)
    assert not torch.equal(weighted["loss"], plain["loss"])


@every_network
@every_estimator
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_priorities(loss_class: LossClass, network_class: NetworkClass, estimator: str, shape: tuple[int, ...]) -> None:
    batch = make_batch(6)
    loss = make_loss(loss_class, network_class, estimator, reduction="none")
    captured = {}
    write = loss._write_priority
    loss._write_priority = lambda *a: (captured.update(online=a[1], value=a[2], target=a[3]), write(*a))
    shaped = batch.reshape(shape)
    loss(shaped)
    online, value, target = captured["online"], captured["value"], captured["target"]
    widths = torch.full_like(value, 1 / value.shape[1]) if online.edges is None else online.edges.diff(dim=-1)
    expected = ((value * widths).sum(-1) - target.mean(-1)).abs()
    assert shaped["td_error"].shape == (*shape, 1)
    assert not shaped["td_error"].requires_grad
    assert torch.allclose(shaped["td_error"].flatten(), expected, rtol=1e-5, atol=1e-6)


@every_network
def test_priority_by_loss(loss_class: LossClass, network_class: NetworkClass) -> None:
    loss, batch = make_loss(loss_class, network_class, priority="loss", reduction="none"), make_batch(2, 3)
    batch["priority_weight"] = WEIGHTS  # which belong to the sample's draw, not to its surprise
    found = loss(batch)["loss"]
    assert torch.allclose(batch["td_error"].squeeze(-1) * WEIGHTS, found, rtol=1e-6, atol=0)


@pytest.mark.parametrize("priority", ["loss", "mean_difference"])
def test_a_broken_sample_gets_no_priority_and_the_others_keep_theirs(priority: str) -> None:
    loss, batch = make_loss(QRDQNLoss, MLPQRNetwork, priority=priority), make_batch(4)
    loss(batch)
    healthy = batch["td_error"].clone()
    batch["next", "reward"][1] = float("nan")
    batch["next", "observation"][2] = float("inf")
    batch["next", "terminated"][2] = False
    assert not bool(loss(batch)["loss"].isfinite())
    assert batch["td_error"][[1, 2]].tolist() == [[0.0], [0.0]]
    assert torch.equal(batch["td_error"][[0, 3]], healthy[[0, 3]])


def test_normalizer_by_hand() -> None:
    # Targets 0, 1 and 0, 4 against themselves at fractions 1/4, 3/4, kappa 1: the value 0 meets u = 0 and u = 1 (4)
    # with weight 1/4, the value 1 (4) meets u = -1 (-4) with weight 1/4. Huber of 1 is 1/2, of 4 is 7/2:
    # self-loss sqrt((1/8 + 1/8) / 2) = sqrt(1/8) and sqrt((7/8 + 7/8) / 2) = sqrt(7/8).
    small, large = (1 / 8) ** 0.5, (7 / 8) ** 0.5
    typical = (small + large) / 2
    normalizer = SelfLossNormalizer(clamp_ratio=1.5, decay=0.9)
    floor = typical / 1.5
    assert small < floor
    found = normalizer(torch.tensor([3.0, 3.0]), torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
    typical_clamped = (floor + large) / 2
    expected = [3 * typical_clamped / floor, 3 * typical_clamped / large]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    # The running mean: 0.9 of it and 0.1 of the new one, which is that of points: 0.
    normalizer(torch.ones(1), torch.tensor([[5.0, 5.0]]))
    assert normalizer.typical.item() == pytest.approx(0.9 * typical, rel=1e-6)
    before = normalizer.typical.clone()
    normalizer.eval()(torch.ones(1), torch.tensor([[0.0, 1.0]]))
    assert torch.equal(normalizer.typical, before)


def test_normalizer_of_points_changes_nothing() -> None:
    assert SelfLossNormalizer()(torch.tensor([3.0]), torch.tensor([[5.0, 5.0]])).tolist() == [3.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"clamp_ratio": 0.5}, "clamp_ratio=0.5"), ({"decay": 1.0}, "decay=1.0")],
)
def test_invalid_normalizers(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfLossNormalizer(**options)


def test_normalizer_in_a_loss_divides_each_sample() -> None:
    batch = make_batch(5)
    plain = losses_of(make_loss(QRDQNLoss, MLPQRNetwork, reduction="none"), batch)["loss"]
    normalized = make_loss(QRDQNLoss, MLPQRNetwork, reduction="none", normalizer=SelfLossNormalizer())
    targets = normalized.value_estimator.value_estimate(batch, normalized.target_value_network_params)
    expected = SelfLossNormalizer()(plain, targets)
    assert torch.allclose(losses_of(normalized, batch)["loss"], expected, rtol=1e-6, atol=0)
    assert "normalizer.typical" in normalized.state_dict()


@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_kappa_reaches_the_loss(kappa: float) -> None:
    loss, batch = make_loss(QRDQNLoss, MLPQRNetwork, kappa=kappa, reduction="none"), make_batch(5)
    online = loss.evaluate(loss.value_network_params, batch, 6)
    value = online.values.gather(2, batch["action"].view(5, 1, 1).expand(5, 6, 1)).squeeze(-1)
    target = loss.value_estimator.value_estimate(batch, loss.target_value_network_params)
    expected = quantile_huber_loss(value, online.fractions, target, kappa=kappa)
    assert torch.equal(losses_of(loss, batch)["loss"], expected.detach())
