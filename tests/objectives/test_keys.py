"""The keys of losses: what is read and written can be renamed."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from tests.objectives.cases import (
    ESTIMATORS,
    GAMMA,
    Loss,
    assert_equal,
    every_estimator,
    every_loss,
    every_network,
    full_batch,
    losses_of,
    make_batch,
    make_loss,
    targets_of,
)
from tm_torchrl.modules import QuantileNetwork
from tm_torchrl.objectives import DQNLoss

LossClass = type[Loss]
NetworkClass = type[QuantileNetwork]
OUTCOME = [("next", "reward"), ("next", "done"), ("next", "terminated")]
# Those of TorchRL's DQN loss are its actor's and its estimator's, and the weight's key cannot be nested.
OTHERS = ["action", "priority_weight", "steps_to_next_obs", ("next", "action_mask")]


@every_loss
@pytest.mark.parametrize("folder", [(), ("agents",)], ids=["flat", "nested"])
def test_set_keys_of_what_is_read(
    loss_class: LossClass, network_class: NetworkClass, estimator: str, folder: tuple[str, ...]
) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), full_batch(5)
    expected = losses_of(loss, batch)
    for key in OUTCOME if loss_class is DQNLoss else [*OUTCOME, *OTHERS]:
        *place, name = key if isinstance(key, tuple) else (key,)
        batch.set((*place, *folder, f"my_{name}"), batch.pop(key))
        loss.set_keys(**{name: (*folder, f"my_{name}")})
    assert_equal(losses_of(loss, batch), expected)


@every_network
def test_set_keys_of_every_field_and_back(loss_class: LossClass, network_class: NetworkClass) -> None:
    loss = make_loss(loss_class, network_class)
    batch, names = full_batch(5), [field.name for field in fields(loss._AcceptedKeys)]
    expected = losses_of(loss, batch)
    for name in names:
        loss.set_keys(**{name: ("other", name)})
        assert getattr(loss.tensor_keys, name) == ("other", name)
    loss.set_keys(**dict.fromkeys(names))
    assert loss.tensor_keys == loss.default_keys()
    assert_equal(losses_of(loss, batch), expected)


@every_network
def test_set_keys_of_what_is_written(loss_class: LossClass, network_class: NetworkClass) -> None:
    loss, batch = make_loss(loss_class, network_class), make_batch(5)
    loss.set_keys(priority=("replay", "priority"), value_target=("targets", "samples"))
    loss(batch)
    assert batch["replay", "priority"].shape == (5, 1)
    assert batch.get("td_error", None) is None
    torch.manual_seed(7)
    loss.value_estimator(batch, target_params=loss.target_value_network_params)
    assert torch.equal(batch["targets", "samples"], targets_of(loss, batch))


@every_network
def test_set_keys_knows_its_keys(loss_class: LossClass, network_class: NetworkClass) -> None:
    with pytest.raises(ValueError, match="rewards is not an accepted tensordict key"):
        make_loss(loss_class, network_class).set_keys(rewards="r")


@every_network
@every_estimator
def test_keys_outlive_a_change_of_estimator(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    loss, batch = make_loss(loss_class, network_class), make_batch(5)
    batch.rename_key_("action", "move")
    loss.set_keys(action="move")
    loss.make_value_estimator(estimator, gamma=GAMMA, **ESTIMATORS[estimator])
    batch_with_both = batch.clone().set("action", 2 - batch["move"])
    assert_equal(losses_of(loss, batch), losses_of(loss, batch_with_both))
