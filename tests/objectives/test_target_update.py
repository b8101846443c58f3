"""Soft and hard updates of target networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from tensordict import TensorDictBase
from torchrl.objectives import SoftUpdate as TorchRLSoftUpdate

from tests.objectives.cases import every_network, losses_of, make_batch, make_loss
from tm_torchrl.modules import MLPIQNetwork, MLPQRNetwork, NoisyLinear, Normalize, QuantileNetwork
from tm_torchrl.objectives import HardUpdate, IQNLoss, QRDQNLoss, SoftUpdate
from tm_torchrl.objectives.quantile_loss import QuantileLoss


def weights(params: TensorDictBase) -> dict[str, torch.Tensor]:
    return {
        key: value.detach().clone()
        for key, value in params.flatten_keys(".").items()
        if not key.endswith("_epsilon") and value.is_floating_point()
    }


def shift_online(loss: QuantileLoss, amount: float) -> None:
    for value in loss.value_network_params.values(True, True):
        value.data.add_(amount)


@every_network
def test_soft_update(loss_class: type[QuantileLoss], network_class: type[QuantileNetwork]) -> None:
    loss, batch = make_loss(loss_class, network_class), make_batch(5)
    updater = SoftUpdate(loss, tau=0.25)
    losses_of(loss, batch)
    shift_online(loss, 1.0)
    online, before = weights(loss.value_network_params), weights(loss.target_value_network_params)
    first = losses_of(loss, batch)
    updater.step()
    after = weights(loss.target_value_network_params)
    for name, value in after.items():
        if name.endswith(("weight", "bias")):
            assert torch.allclose(value, 0.75 * before[name] + 0.25 * online[name], rtol=1e-5, atol=1e-6), name
    assert not torch.equal(losses_of(loss, batch)["loss"], first["loss"])


@every_network
def test_soft_update_does_what_torchrls_does(
    loss_class: type[QuantileLoss], network_class: type[QuantileNetwork]
) -> None:
    ours, theirs = make_loss(loss_class, network_class), make_loss(loss_class, network_class)
    updaters = SoftUpdate(ours, tau=0.3), TorchRLSoftUpdate(theirs, tau=0.3)
    for amount in (1.0, -0.5, 0.25):
        for loss, updater in zip((ours, theirs), updaters, strict=True):
            for value in loss.value_network_params.parameters():
                value.data.add_(amount)
            updater.step()
    found, expected = (weights(loss.target_value_network_params) for loss in (ours, theirs))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7, msg=name)


def test_soft_update_copies_buffers_and_follows_to_other_types() -> None:
    loss = make_loss(QRDQNLoss, MLPQRNetwork, network_options={"normalize": Normalize([0.0] * 4, [1.0] * 4)})
    updater = SoftUpdate(loss, tau=0.5)
    loss.to(torch.float64)
    shift_online(loss, 1.0)
    before, online = weights(loss.target_value_network_params), weights(loss.value_network_params)
    updater.step()
    after = weights(loss.target_value_network_params)
    (mean,) = [name for name in after if name.endswith(".mean")]
    (bias, *_) = [name for name in after if name.endswith(".bias")]
    assert after[mean].tolist() == [1.0] * 4 and after[mean].dtype == torch.float64
    assert torch.allclose(after[bias], (before[bias] + online[bias]) / 2) and not torch.equal(after[bias], online[bias])


@pytest.mark.parametrize("updater", [partial(SoftUpdate, tau=0.5), partial(HardUpdate, period=3)])
def test_an_updater_makes_networks_equal_at_construction(updater: Callable[[QuantileLoss], object]) -> None:
    loss = make_loss(QRDQNLoss, MLPQRNetwork)
    shift_online(loss, 1.0)
    updater(loss)
    online = weights(loss.value_network_params)
    assert all(torch.equal(value, online[name]) for name, value in weights(loss.target_value_network_params).items())


def test_soft_update_resumes_from_torchrls_state() -> None:
    loss = make_loss(QRDQNLoss, MLPQRNetwork)
    theirs = TorchRLSoftUpdate(loss, tau=0.3).state_dict()
    assert theirs, "which has something that ours has not"
    updater = SoftUpdate(loss, tau=0.3)
    updater.load_state_dict(theirs)
    before = weights(loss.target_value_network_params)
    shift_online(loss, 1.0)
    updater.step()
    for name, value in weights(loss.target_value_network_params).items():
        if name.endswith(("weight", "bias")):
            torch.testing.assert_close(value, before[name] + 0.3, rtol=1e-5, atol=1e-6)


def test_torchrls_names_of_the_arguments() -> None:
    loss = make_loss(QRDQNLoss, MLPQRNetwork)
    assert SoftUpdate(loss_module=loss, eps=0.75).tau == 0.25
    assert HardUpdate(loss_module=loss, value_network_update_interval=3).period == 3
    assert "value_network_params" in repr(SoftUpdate(loss, eps=0.75))


@pytest.mark.parametrize("options", [{"tau": -0.1}, {"tau": float("nan")}, {"eps": 1.5}, {}, {"tau": 0.5, "eps": 0.5}])
def test_invalid_tau(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options), 'tau')}="):
        SoftUpdate(make_loss(QRDQNLoss, MLPQRNetwork), **options)


@pytest.mark.parametrize("options", [{"period": 0}, {}, {"period": 2, "value_network_update_interval": 2}])
def test_invalid_period(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="period="):
        HardUpdate(make_loss(QRDQNLoss, MLPQRNetwork), **options)


@pytest.mark.parametrize("period", [1, 2, 5])
@every_network
def test_hard_update_has_its_period(
    loss_class: type[QuantileLoss], network_class: type[QuantileNetwork], period: int
) -> None:
    loss, updater_steps = make_loss(loss_class, network_class), []
    updater = HardUpdate(loss, period=period)
    for step in range(1, 2 * period + 1):
        shift_online(loss, 1.0)
        before = weights(loss.target_value_network_params)
        updater_steps.append(updater.step())
        after, online = weights(loss.target_value_network_params), weights(loss.value_network_params)
        expected = online if step % period == 0 else before
        assert all(torch.equal(after[name], expected[name]) for name in after)
    assert updater_steps == [step % period == 0 for step in range(1, 2 * period + 1)]


def test_hard_update_copies_buffers() -> None:
    normalize = Normalize([0.0] * 4, [1.0] * 4)
    loss = make_loss(QRDQNLoss, MLPQRNetwork, network_options={"normalize": normalize})
    mean = [key for key in loss.value_network_params.keys(True, True) if key[-1] == "mean"]
    assert len(mean) == 1
    updater = HardUpdate(loss, period=1)
    loss.value_network_params.data[mean[0]].fill_(3.0)
    updater.step()
    assert loss.target_value_network_params[mean[0]].tolist() == [3.0] * 4


def test_hard_update_leaves_noise() -> None:
    loss = make_loss(IQNLoss, MLPIQNetwork, network_options={"linear": NoisyLinear})

    def noise() -> list[torch.Tensor]:
        items = loss.target_value_network_params.items(True, True)
        return [value.detach().clone() for key, value in items if key[-1].endswith("_epsilon")]

    updater = HardUpdate(loss, period=1)
    losses_of(loss, make_batch(5))
    before = noise()
    updater.step()
    assert before
    assert all(torch.equal(a, b) for a, b in zip(noise(), before, strict=True))


def test_hard_update_resumes() -> None:
    loss = make_loss(QRDQNLoss, MLPQRNetwork)
    updater, other = HardUpdate(loss, period=3), HardUpdate(loss, period=3)
    updater.step()
    updater.step()
    other.load_state_dict(updater.state_dict())
    assert other.step()


def test_hard_update_silences_torchrls_warning(recwarn: pytest.WarningsRecorder) -> None:
    loss = make_loss(QRDQNLoss, MLPQRNetwork, delay_value=False)
    with pytest.raises(ValueError, match="delay_value=True"):
        HardUpdate(loss, period=2)
    loss = QRDQNLoss(MLPQRNetwork(4, 3), action_space="categorical")
    HardUpdate(loss, period=2)
    recwarn.clear()
    loss(make_batch(5))
    assert [str(warning.message) for warning in recwarn] == []
