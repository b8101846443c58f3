"""Errors name invalid input: arguments at construction, batches and networks at first use."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn

from tests.objectives.cases import every_estimator, every_network, make_batch, make_loss, small
from tm_torchrl.modules import (
    FractionSource,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPNQNetwork,
    MLPQRNetwork,
    PolicyValueNetwork,
    QuantileNetwork,
)
from tm_torchrl.objectives import FQFLoss, GRPOLoss, IQNLoss, PPOLoss, QRDQNLoss
from tm_torchrl.objectives.quantile_loss import QuantileLoss

LossClass = type[QuantileLoss]
NetworkClass = type[QuantileNetwork]


class Wrong(FractionSource):
    """Draws fractions of which the first is wrong."""

    def __init__(self, first: float) -> None:
        super().__init__()
        self.first = first

    def draw(self, shape: tuple[int, ...], num_fractions: int, device: Any) -> torch.Tensor:
        fractions = torch.full((*shape, num_fractions), 0.5)
        fractions[..., 0] = self.first
        return fractions


@pytest.mark.parametrize("first", [0.0, 1.0, -0.25, 1.5, float("nan")])
def test_fractions_outside(first: float) -> None:
    loss = make_loss(IQNLoss, MLPIQNetwork, source=Wrong(first))
    with pytest.raises(ValueError, match="IQNLoss: fractions between"):
        loss(make_batch(5))


@every_network
def test_an_empty_batch(loss_class: LossClass, network_class: NetworkClass) -> None:
    with pytest.raises(ValueError, match=rf"{loss_class.__name__}: .*\(0,\)"):
        make_loss(loss_class, network_class)(make_batch(5)[:0])


@every_network
@every_estimator
@pytest.mark.parametrize("key", ["observation", "action", ("next", "reward"), ("next", "terminated")], ids=str)
def test_missing_keys(loss_class: LossClass, network_class: NetworkClass, estimator: str, key: Any) -> None:
    batch = make_batch(5).exclude(key)
    with pytest.raises(KeyError) as caught:
        make_loss(loss_class, network_class, estimator)(batch)
    message = str(caught.value)
    assert f"{loss_class.__name__}: no {key!r} in the batch; it has " in message
    assert all(str(present) in message.split("it has")[1] for present in batch.keys(True, True))


@every_network
def test_rewards_that_are_not_finite(loss_class: LossClass, network_class: NetworkClass) -> None:
    batch = make_batch(5)
    batch["next", "reward"][3] = float("-inf")
    with pytest.raises(
        FloatingPointError, match=r"the reward \('next', 'reward'\) is .* 1 of 5 numbers, the first at \(3, 0\) is -inf"
    ):
        make_loss(loss_class, network_class)(batch)
    assert batch.get("td_error", None) is None


@every_network
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("observation", torch.full((5, 4), float("nan")), "the batch's 'observation' is .* 20 of 20"),
        ("action", torch.full((5,), 0.7), "action of dtype torch.float32"),
        ("action", torch.tensor([0, 1, 2, 3, 0]), r"'action' holds 3; must be indices in 0\.\.2"),
        ("steps_to_next_obs", torch.tensor([1, 3, -1, 2, 1]), "'steps_to_next_obs' holds -1; must be at least 1"),
        ("priority_weight", torch.tensor([1.0, -0.5, 1, 1, 1]), "'priority_weight' holds -0.5; must be at least 0"),
    ],
)
def test_numbers_of_the_first_batch(
    loss_class: LossClass, network_class: NetworkClass, key: str, value: torch.Tensor, message: str
) -> None:
    with pytest.raises((TypeError, ValueError, FloatingPointError), match=message):
        make_loss(loss_class, network_class)(make_batch(5).set(key, value))


NAN = float("nan")


@pytest.mark.parametrize("loss_class", [PPOLoss, GRPOLoss])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("action_log_prob", torch.zeros(6, 1), r"'action_log_prob' has shape \(6, 1\); must be \(6,\)$"),
        ("advantage", torch.zeros(6, 1, 1), r"'advantage' has shape \(6, 1, 1\); must be \(6,\) or \(6, 1\)"),
        ("advantage", None, "no 'advantage' in the batch; it has action, "),
        ("observation", None, "no 'observation' in the batch"),
        ("advantage", torch.full((6, 1), NAN), "the batch's 'advantage' is .* 6 of 6"),
        ("observation", torch.full((6, 4), NAN), "the batch's 'observation' is"),
        ("action_log_prob", torch.full((6,), NAN), "the batch's 'action_log_prob' is"),
        ("action", torch.zeros(6, 1).long(), r"action: torch.int64 of shape \(6, 1\); must be .* \(6,\)"),
        ("action", torch.ones(6, 3).long(), r"action: torch.int64 of shape \(6, 3\).* action.argmax"),
        ("action", torch.zeros(6), "action: torch.float32 of shape"),
        ("action", torch.tensor([0, 1, 2, 3, 0, 0]), r"'action' holds 3; must be indices in 0\.\.2"),
        ("action", torch.tensor([0, 1, 2, -1, 0, 0]), "'action' holds -1"),
    ],
)
def test_a_policys_first_batch(loss_class: Any, key: str, value: torch.Tensor | None, message: str) -> None:
    batch = policy_batch().exclude(key) if value is None else policy_batch().set(key, value)
    loss = loss_class(PolicyValueNetwork(4, 3))
    for _ in range(2):  # a refused batch does not count as checked
        with pytest.raises((KeyError, ValueError, FloatingPointError), match=message):
            loss(batch)
    loss(policy_batch())


@pytest.mark.parametrize("key", ["value_target", "state_value"])
def test_columns_of_ppo(key: str) -> None:
    loss = PPOLoss(PolicyValueNetwork(4, 3), clip_value=0.2)
    with pytest.raises(ValueError, match=rf"PPOLoss: '{key}' has shape \(6, 1, 1\)"):
        loss(policy_batch().set(key, torch.zeros(6, 1, 1)))


@pytest.mark.parametrize("loss_class", [PPOLoss, GRPOLoss])
def test_batches_of_other_sizes(loss_class: Any) -> None:
    loss = loss_class(PolicyValueNetwork(4, 3))
    with pytest.raises(ValueError, match=r"the batch is empty \(batch size \(0,\)\)"):
        loss(policy_batch()[:0])
    with pytest.raises(ValueError, match=r"the batch has size \(2, 3\); must be \[B\]"):
        loss(policy_batch().reshape(2, 3))


def policy_batch() -> TensorDict:
    flat, column = torch.zeros(6), torch.ones(6, 1)
    entries = {"observation": torch.zeros(6, 4), "action": flat.long(), "action_log_prob": flat, "advantage": column}
    return TensorDict({**entries, "value_target": column, "state_value": column}, [6])


@every_network
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("online", "the network's .*weight is"),
        ("target", "the target network's .*weight is"),
        ("observation", "'observation' is"),
        ("next", r"\('next', 'observation'\) is"),
        ("reward", r"\('next', 'reward'\) is"),
    ],
)
def test_check_finite_names_the_first(
    loss_class: LossClass, network_class: NetworkClass, broken: str, message: str
) -> None:
    loss, batch = make_loss(loss_class, network_class, check_finite=True), make_batch(5)
    loss(batch)
    if broken in ("online", "target"):
        params = loss.value_network_params if broken == "online" else loss.target_value_network_params
        weights = [value for key, value in params.items(True, True) if "encoder" in key and key[-1] == "weight"]
        weights[0].data[0, 0] = float("nan")
    else:
        tensor = batch["next", broken] if broken == "reward" else batch["observation"]
        tensor = batch["next", "observation"] if broken == "next" else tensor
        tensor[0, 0] = float("nan")
    before = batch["td_error"].clone()
    with pytest.raises(FloatingPointError, match=message):
        loss(batch)
    assert torch.equal(batch["td_error"], before)


def test_check_finite_names_results() -> None:
    loss, batch = make_loss(QRDQNLoss, MLPQRNetwork, check_finite=True), make_batch(5)
    batch["observation"].fill_(3e38)  # finite, but not after a layer
    with pytest.raises(FloatingPointError, match="QRDQNLoss: online_quantiles"):
        loss(batch)


@pytest.mark.parametrize("loss_class", [IQNLoss, QRDQNLoss, FQFLoss])
def test_unknown_action_space(loss_class: LossClass) -> None:
    network = small(MLPFQFNetwork if loss_class is FQFLoss else MLPNQNetwork)
    with pytest.raises(ValueError, match="action_space=None: a QuantileModule"):
        loss_class(network)
    with pytest.raises(ValueError, match="action_space='binary'"):
        loss_class(network, action_space="binary")


@every_network
def test_one_hot_actions_taken_for_categorical(loss_class: LossClass, network_class: NetworkClass) -> None:
    with pytest.raises(ValueError, match=r"action of shape \(5, 3\): .* action_space='one_hot'"):
        make_loss(loss_class, network_class)(make_batch(5, is_one_hot=True))


@pytest.mark.parametrize(
    ("estimator", "hyperparameters", "message"),
    [
        ("munchausen", {"alpha": 1.5}, "alpha=1.5"),
        ("munchausen", {"alpha": -0.1}, "alpha=-0.1"),
        ("munchausen", {"temperature": 0.0}, "temperature=0.0"),
        ("munchausen", {"clip": 1.0}, "clip=1.0"),
        ("munchausen", {"clip_on": "all"}, "clip_on='all'"),
        ("munchausen", {"policy_from": "both"}, "policy_from='both'"),
        ("soft", {"temperature": -1.0}, "temperature=-1.0"),
        ("soft", {"temperature": float("nan")}, "temperature=nan"),
        ("greedy", {"gamma": 1.01}, "gamma=1.01"),
    ],
)
@every_network
def test_hyperparameters_out_of_range(
    loss_class: LossClass, network_class: NetworkClass, estimator: str, hyperparameters: dict[str, Any], message: str
) -> None:
    loss = make_loss(loss_class, network_class)
    with pytest.raises(ValueError, match=message):
        loss.make_value_estimator(estimator, **hyperparameters)


@every_network
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappa": -1.0}, "kappa=-1.0"),
        ({"priority": "td"}, "priority='td'"),
        ({"reduction": "median"}, "reduction='median'"),
    ],
)
def test_arguments(loss_class: LossClass, network_class: NetworkClass, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_loss(loss_class, network_class, **options)


def foreign(in_keys: list[str]) -> TensorDictModule:
    return TensorDictModule(nn.Linear(4, 3), in_keys=in_keys, out_keys=["quantile_values"])


def test_invalid_networks() -> None:
    ignores = "value_network: its values do not depend on the fractions"
    with pytest.raises(ValueError, match=ignores):
        IQNLoss(small(MLPQRNetwork), action_space="categorical")
    with pytest.raises(ValueError, match=ignores):
        IQNLoss(foreign(["observation"]), action_space="categorical")(make_batch(5))
    with pytest.raises(ValueError, match=r"value_network: .* FQFLoss"):
        IQNLoss(small(MLPFQFNetwork), action_space="categorical")
    with pytest.raises(ValueError, match=r"value_network=.* MLPFQFNetwork"):
        FQFLoss(small(MLPIQNetwork), action_space="categorical")
    with pytest.raises(ValueError, match=r"num_fractions=7: .* 6 "):
        QRDQNLoss(small(MLPQRNetwork), action_space="categorical", num_fractions=7)
    with pytest.raises(ValueError, match="num_target_fractions=0"):
        IQNLoss(small(MLPIQNetwork), action_space="categorical", num_target_fractions=0)
    with pytest.raises(TypeError, match="value_network=Linear"):
        IQNLoss(nn.Linear(4, 3), action_space="categorical")


def test_values_of_another_shape() -> None:
    loss = QRDQNLoss(foreign(["observation"]), action_space="categorical", num_fractions=6)
    with pytest.raises(ValueError, match=r"QRDQNLoss: .*\(5, 3\) for fractions \(5, 6\)"):
        loss(make_batch(5))
