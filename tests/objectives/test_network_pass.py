"""How losses evaluate networks: number of passes, noise, precision, and foreign networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tensordict import NestedKey, TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn

from tests.objectives.cases import (
    COMBINATIONS,
    ESTIMATORS,
    GAMMA,
    NUM_FRACTIONS,
    assert_equal,
    every_estimator,
    every_network,
    losses_of,
    make_batch,
    make_loss,
    small,
    targets_of,
)
from tm_torchrl.modules import MidpointFractions, MLPIQNetwork, MLPQRNetwork, NoisyLinear, QuantileNetwork
from tm_torchrl.objectives import IQNLoss, QRDQNLoss
from tm_torchrl.objectives.functional import quantile_huber_loss
from tm_torchrl.objectives.network_pass import quantile_module
from tm_torchrl.objectives.quantile_loss import QuantileLoss

LossClass = type[QuantileLoss]
NetworkClass = type[QuantileNetwork]


@every_network
@every_estimator
def test_number_of_passes(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), make_batch(5)
    own_weight = {id(value): "online" for value in loss.value_network_params.values(True, True)}
    own_weight |= {id(value): "target" for value in loss.target_value_network_params.values(True, True)}
    passes = []
    encoder = quantile_module(loss.value_network).network.encoder
    encoder.register_forward_hook(
        lambda module, args, output: passes.append((own_weight[id(module.layers[0].weight)], len(output)))
    )
    loss(batch)
    assert (
        passes
        == {
            "greedy": [("online", 5), ("target", 5)],
            "double": [("online", 5), ("online", 5), ("target", 5)],
            "soft": [("online", 5), ("target", 5)],
            "munchausen": [("online", 5), ("target", 10)],
        }[estimator]
    )


def test_munchausen_with_the_online_policy_shares_the_online_pass() -> None:
    loss = make_loss(IQNLoss, MLPIQNetwork)
    loss.make_value_estimator("munchausen", policy_from="online", **ESTIMATORS["munchausen"])
    sizes = []
    encoder = quantile_module(loss.value_network).network.encoder
    encoder.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    loss(make_batch(5))
    assert sizes == [5, 5]
    with pytest.raises(ValueError, match="online=None"):
        targets_of(loss, make_batch(5))


@pytest.mark.parametrize(("loss_class", "network_class"), [(IQNLoss, MLPIQNetwork), (QRDQNLoss, MLPQRNetwork)])
@every_estimator
def test_noise(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    loss = make_loss(loss_class, network_class, estimator, network_options={"linear": NoisyLinear})
    batch, noises = make_batch(16), []
    layer = next(m for m in loss.value_network.modules() if isinstance(m, NoisyLinear))
    layer.register_forward_hook(lambda module, args, output: noises.append(module.row_noise.clone()))
    for _ in range(2):
        loss(batch)["loss"].backward()
    num_passes = 3 if estimator == "double" else 2
    assert len(noises) == 2 * num_passes
    assert {len(noise) for noise in noises} <= {16, 32}, "each state has its own; Munchausen's two states are joined"
    rows = torch.cat(noises)
    assert len(rows.unique(dim=0)) == len(rows)
    assert layer.row_noise is None, "left behind"
    sigmas = [name for name, p in loss.named_parameters() if "sigma" in name and bool((p.grad != 0).any())]
    assert len(sigmas) == len([name for name, _ in loss.named_parameters() if "sigma" in name]) > 0


@every_network
def test_without_delay_greedy_targets_come_from_the_online_network(
    loss_class: LossClass, network_class: NetworkClass
) -> None:
    loss, batch = make_loss(loss_class, network_class, delay_value=False, reduction="none"), make_batch(8)
    torch.manual_seed(7)
    found = loss(batch)["loss"]
    torch.manual_seed(7)
    online = loss.evaluate(loss.value_network_params, batch, NUM_FRACTIONS)
    value = online.values.gather(2, batch["action"].view(8, 1, 1).expand(8, NUM_FRACTIONS, 1)).squeeze(-1)
    target = loss.value_estimator.value_estimate(batch, loss.value_network_params.data)
    expected = quantile_huber_loss(value, online.fractions.detach(), target)
    assert torch.equal(found, expected)
    parameters = list(loss.quantile_parameters()) if hasattr(loss, "quantile_parameters") else list(loss.parameters())
    gradients = [torch.autograd.grad(each.sum(), parameters) for each in (found, expected)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@every_network
def test_without_delay_double_is_refused(loss_class: LossClass, network_class: NetworkClass) -> None:
    loss = make_loss(loss_class, network_class, delay_value=False)
    with pytest.raises(ValueError, match="delay_value=False"):
        loss.make_value_estimator("double")


class ForeignImplicit(nn.Module):
    """Values ``observation . weights + fraction``: [B, F] and [B, N] to [B, N, A]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, observation: Tensor, fractions: Tensor) -> Tensor:
        return self.layer(observation).unsqueeze(1) + fractions.unsqueeze(-1)


@every_estimator
@pytest.mark.parametrize("keys", [("fractions", "quantile_values"), (("net", "taus"), ("net", "values"))])
def test_a_foreign_network_for_iqn(estimator: str, keys: tuple[NestedKey, NestedKey]) -> None:
    torch.manual_seed(0)
    fractions_key, values_key = keys
    module = TensorDictModule(ForeignImplicit(), in_keys=["observation", fractions_key], out_keys=[values_key])
    loss = IQNLoss(module, action_space="categorical", source=MidpointFractions(), num_fractions=2, reduction="none")
    loss.make_value_estimator(estimator, gamma=GAMMA, **ESTIMATORS[estimator])
    loss.set_keys(fractions=fractions_key, quantile_values=values_key)
    batch = make_batch(5)
    found = loss(batch)["loss"]
    weight, bias = (loss.value_network_params["module", "layer", name] for name in ("weight", "bias"))
    fractions = torch.tensor([[0.25, 0.75]]).expand(5, 2)
    value = (batch["observation"] @ weight.T + bias).gather(1, batch["action"].unsqueeze(-1)) + fractions
    assert torch.allclose(found, quantile_huber_loss(value, fractions, targets_of(loss, batch)), rtol=1e-5)
    if estimator == "greedy":
        best = (batch["next", "observation"] @ weight.T + bias).max(-1, keepdim=True).values
        middles = (torch.arange(8) + 0.5) / 8
        by_hand = batch["next", "reward"] + GAMMA * ~batch["next", "terminated"] * (best + middles)
        assert torch.allclose(targets_of(loss, batch), by_hand, rtol=1e-5, atol=1e-6)


@every_estimator
def test_a_foreign_network_for_qrdqn_is_as_our_own(estimator: str) -> None:
    ours = make_loss(QRDQNLoss, MLPQRNetwork, estimator)

    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = small(MLPQRNetwork)

        def forward(self, observation: Tensor) -> Tensor:
            return self.network(observation).movedim(-1, 1)

    module = TensorDictModule(Foreign(), in_keys=["observation"], out_keys=["quantile_values"])
    with pytest.raises(ValueError, match="num_fractions=None"):
        QRDQNLoss(module, action_space="categorical")
    loss = QRDQNLoss(module, action_space="categorical", num_fractions=NUM_FRACTIONS)
    loss.make_value_estimator(estimator, gamma=GAMMA, **ESTIMATORS[estimator])
    for name in ("value_network_params", "target_value_network_params"):
        theirs, mine = getattr(ours, name).data, getattr(loss, name).data
        mine["module", "network"].update_(theirs["network"])
    batch = make_batch(5)
    batch_of_theirs = batch.clone()
    found, expected = loss(batch), ours(batch_of_theirs)
    assert torch.equal(found["loss"], expected["loss"])
    assert torch.equal(batch["td_error"], batch_of_theirs["td_error"])
    torch.testing.assert_close(loss(batch[0])["loss"], ours(batch[0])["loss"])  # a single step


@every_network
@every_estimator
def test_bfloat16(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), make_batch(64)
    expected = losses_of(loss, batch)["loss"]
    torch.manual_seed(7)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(batch)
    found["loss"].backward()
    assert all(value.dtype == torch.float32 for value in found.values())
    assert batch["td_error"].dtype == torch.float32
    # bfloat16 has 8 bits: each of three layers rounds by 2^-9, the mean over 64 samples by less.
    assert found["loss"].item() == pytest.approx(expected.item(), rel=3 * 2**-8)
    assert found["loss"].item() != expected.item()
    assert all(bool(p.grad.isfinite().all()) for p in loss.parameters() if p.grad is not None)


@every_network
def test_double_precision(loss_class: LossClass, network_class: NetworkClass) -> None:
    loss, batch = make_loss(loss_class, network_class), make_batch(5)
    single = losses_of(loss, batch)["loss"]
    batch["observation"] = batch["observation"].double()
    batch["next", "observation"] = batch["next", "observation"].double()
    batch["next", "reward"] = batch["next", "reward"].double()
    found = losses_of(loss.double(), batch)["loss"]
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(single.item(), rel=1e-5)


def by_item(loss: QuantileLoss, other: QuantileLoss) -> None:
    for name in ("value_network_params", "target_value_network_params"):
        mine, theirs = getattr(loss, name), getattr(other, name)
        for key in list(theirs.keys(True, True)):
            mine[key] = nn.Parameter(theirs[key].detach().clone()) if name[0] == "v" else theirs[key].clone()


def by_state_dict(loss: QuantileLoss, other: QuantileLoss) -> None:
    loss.load_state_dict(other.state_dict(), assign=True)


def by_attribute(loss: QuantileLoss, other: QuantileLoss) -> None:
    for name in ("value_network_params", "target_value_network_params"):
        setattr(loss, name, getattr(other, name))


@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("replace", [by_item, by_state_dict, by_attribute])
def test_a_loss_sees_its_parameters_replaced(
    replace: Callable[[QuantileLoss, QuantileLoss], None], is_used: bool
) -> None:
    loss, other, batch = make_loss(IQNLoss, MLPIQNetwork), make_loss(IQNLoss, MLPIQNetwork, seed=3), make_batch(5)
    if is_used:
        losses_of(loss, batch)
    replace(loss, other)
    assert_equal(losses_of(loss, batch), losses_of(other, batch))
    loss(batch)["loss"].backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_other_parameters_for_a_call() -> None:
    loss, other, batch = make_loss(IQNLoss, MLPIQNetwork), make_loss(IQNLoss, MLPIQNetwork, seed=3), make_batch(5)
    expected, before = losses_of(other, batch), losses_of(loss, batch)
    assert not torch.equal(before["loss"], expected["loss"])
    with (
        other.value_network_params.to_module(loss.value_network_params),
        other.target_value_network_params.to_module(loss.target_value_network_params),
    ):
        assert_equal(losses_of(loss, batch), expected)
    assert_equal(losses_of(loss, batch), before)


@every_network
def test_parameters_can_be_drawn_anew(loss_class: LossClass, network_class: NetworkClass) -> None:
    loss, batch = make_loss(loss_class, network_class), make_batch(5)
    before = losses_of(loss, batch)["loss"]
    loss.reset_parameters_recursive()
    assert not torch.equal(losses_of(loss, batch)["loss"], before)


def test_only_the_priority_is_written() -> None:
    network = small(MLPQRNetwork)
    loss, batch = QRDQNLoss(network, action_space="categorical"), make_batch(5)
    before = set(batch.keys(True, True))
    loss(batch)
    assert set(batch.keys(True, True)) - before == {"td_error"}
    assert isinstance(batch, TensorDict)


def test_no_graph_breaks() -> None:
    """Traced, not compiled: a compiler takes ten times as long."""
    loss, batch = make_loss(IQNLoss, MLPIQNetwork, "munchausen", source=MidpointFractions()), make_batch(8)
    expected_batch = batch.clone()
    expected = loss(expected_batch)["loss"]
    torch.compiler.reset()
    found = torch.compile(loss, fullgraph=True, backend="eager")(batch)["loss"]
    assert torch.equal(found, expected) and torch.equal(batch["td_error"], expected_batch["td_error"])
    gradients = [torch.autograd.grad(value, list(loss.parameters())) for value in (found, expected)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss_class", "network_class", "estimator"),
    [(*pair, "munchausen") for pair in COMBINATIONS]
    + [(IQNLoss, MLPIQNetwork, estimator) for estimator in ESTIMATORS if estimator != "munchausen"],
)
def test_compile(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    # Midpoints, since compiled code draws other random numbers.
    options = {"source": MidpointFractions()} if loss_class is IQNLoss else {}
    loss, batch = make_loss(loss_class, network_class, estimator, **options), make_batch(32)
    expected_batch = batch.clone()
    expected = loss(expected_batch)
    sum(expected.values()).backward()
    gradients = [p.grad.clone() for p in loss.parameters()]
    loss.zero_grad()
    torch.compiler.reset()
    found = torch.compile(loss, fullgraph=True)(batch)
    sum(found.values()).backward()
    assert torch.allclose(found["loss"], expected["loss"], rtol=1e-5)
    assert torch.allclose(batch["td_error"], expected_batch["td_error"], rtol=1e-4, atol=1e-5)
    for parameter, gradient in zip(loss.parameters(), gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-5)
