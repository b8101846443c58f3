"""Frozen parts keep their weights and mode, cost no optimiser state, and are shared with the target network."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from tests.modules.fusion.test_fusion import CNN, KEYS, options
from tests.modules.test_matrix import FAMILIES, make_batch, small
from tm_torchrl.algorithms.learner import Learner
from tm_torchrl.modules import GRU, MLPIQNetwork, PolicyValueNetwork, QuantileModule
from tm_torchrl.modules.freezing import parts_of
from tm_torchrl.objectives import SoftUpdate
from tm_torchrl.objectives.ppo import PPOLoss
from tm_torchrl.trainers.hooks.soft_reset import SoftReset

ALL = ["vision", "floats", "fusion", "fractions", "advantage", "value"]


def learner_of(network: Any, *, family: str = "iqn") -> Learner:
    loss = FAMILIES[family][1](QuantileModule(network, in_keys=KEYS), action_space="categorical")
    optimizer = partial(torch.optim.Adam, eps=1e-4)
    return Learner(loss, optimizer, target=SoftUpdate(loss, tau=0.5), learning_rate=0.01, decay_per_learning_rate=0.1)


def test_parts() -> None:
    assert list(parts_of(small("iqn", **options("unified")))) == ALL
    assert list(parts_of(PolicyValueNetwork(4, 3, **options("unified")))) == ["vision", "floats", "fusion", *ALL[-2:]]
    image_alone = {**options("none"), "normalize": None, "num_inputs": None}
    assert list(parts_of(small("qrdqn", **image_alone))) == ["vision", "advantage", "value"]
    assert list(parts_of(MLPIQNetwork(4, 2, core=GRU, dueling=False))) == ["floats", "core", "fractions", "advantage"]
    assert list(parts_of(small("fqf"))["fractions"]) == ["source", "head.conditioning"]


@pytest.mark.parametrize(("family", "part"), [("iqn", part) for part in ALL] + [("fqf", "fractions")])
def test_an_update_leaves_a_part_as_it_is(family: str, part: str) -> None:
    network = small(family, frozen=[part], **options("unified", CNN))
    paths = tuple(f"{path}." for path in parts_of(network)[part])
    learner = learner_of(network, family=family)
    before = {name: value.clone() for name, value in network.named_parameters()}
    for _ in range(2):
        learner.update(make_batch(KEYS))
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    frozen = {name for name in before if name.startswith(paths)}
    assert frozen
    assert frozen & changed == set()
    # A noisy few may have no gradient in a batch of four; of most there is one.
    assert len(changed) > 0.8 * len(before.keys() - frozen)
    assert len(learner.optimizer.state) == len(before) - len(frozen)


def test_the_target_network_shares_frozen_parts() -> None:
    network = small("iqn", frozen=["vision"], **options("post_concat", CNN))
    learner = learner_of(network)
    learner.update(make_batch(KEYS))
    online = dict(network.named_parameters())
    target = learner.loss.target_value_network_params
    shared = {name for name in online if target[("network", *name.split("."))].data_ptr() == online[name].data_ptr()}
    assert shared == {name for name in online if name.startswith("encoder.pixels.")}
    assert all(torch.equal(target[("network", *name.split("."))], online[name]) for name in shared)


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    network = small("iqn", frozen=["vision", "value"], **options("unified"))
    holder = nn.Sequential(network).train()
    modes = {name: part.training for name, part in network.named_modules()}
    assert holder.training and modes["encoder.floats"] and modes["head.decoder.advantage"]
    inside = [name for name in modes if name.startswith(("encoder.pixels", "head.decoder.value"))]
    assert inside
    assert not any(modes[name] for name in inside)


def test_soft_resets_leave_frozen_parts() -> None:
    make = partial(small, "iqn", **options("unified"))
    network = make(frozen=["floats"])
    with torch.no_grad():
        for value in network.parameters():
            value.fill_(5.0)
    SoftReset(make, every_frames=1, share=0.5, last_layer_share=0.5).reset(network)
    kept = {name for name, value in network.named_parameters() if bool((value == 5.0).all())}
    assert kept == {name for name, _ in network.named_parameters() if name.startswith("encoder.floats.")}


def test_policies_are_frozen_too() -> None:
    network = PolicyValueNetwork(4, 3, hidden_sizes=(8,), frozen=["vision"], **options("post_concat"))
    learner = Learner(PPOLoss(network, in_keys=KEYS), torch.optim.Adam)
    num_frozen = len(list(network.encoder.pixels.parameters()))
    assert len(learner.parameters) == len(list(network.parameters())) - num_frozen


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (["visoin"], "frozen='visoin': unknown; did you mean vision?"),
        (["vision"], "frozen='vision': this network has no such part; its parts are floats, fractions, advantage"),
        (["floats", "fractions", "advantage", "value"], "nothing is left to learn"),
    ],
)
def test_parts_that_cannot_be_frozen(frozen: list[str], message: str) -> None:
    with pytest.raises(ValueError, match="frozen=") as caught:
        MLPIQNetwork(4, 2, frozen=frozen)
    assert message in str(caught.value)
