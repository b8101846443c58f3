"""Soft resets: the mixture, the last layers, the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tm_torchrl.algorithms import QuantileAlgorithm
from tm_torchrl.data import ReuseBudget
from tm_torchrl.evaluation import Diagnostics
from tm_torchrl.modules import MLPIQNetwork
from tm_torchrl.trainers.hooks.soft_reset import DormantReset, SoftReset, last_layers


def network(value: float) -> MLPIQNetwork:
    found = MLPIQNetwork(4, 2, hidden_sizes=(8,), head_size=8)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.fill_(value)
    return found


def training_of(online: MLPIQNetwork, budget: ReuseBudget) -> Any:
    """As much of a training as a reset looks at."""
    algorithm: Any = QuantileAlgorithm.__new__(QuantileAlgorithm)
    algorithm.actor = SimpleNamespace(quantile_module=SimpleNamespace(network=online))
    algorithm.memory = SimpleNamespace(budget=budget)
    return SimpleNamespace(frames=0, algorithm=algorithm)


def test_weights_are_mixed_and_the_last_layers_more() -> None:
    online = network(1.0)
    assert last_layers(online) == {"head.decoder.advantage.2", "head.decoder.value.2"}
    SoftReset(lambda: network(0.0), every_frames=10, share=0.25, last_layer_share=0.75).reset(online)
    for name, parameter in online.named_parameters():
        expected = 0.25 if name.rpartition(".")[0] in last_layers(online) else 0.75
        assert (parameter == expected).all(), name


def test_it_comes_every_so_many_frames_and_pays_for_more_updates() -> None:
    online, budget = network(1.0), ReuseBudget(uses_per_transition=1)
    hook = SoftReset(lambda: network(0.0), every_frames=100, extra_transitions=64)
    training = training_of(online, budget)
    for training.frames in (50, 99, 100, 150, 205):
        hook.after_batch(training)
    assert hook.num_resets == 2
    assert budget.num_updates(64) == 2
    # Twice 99 % of what was there: 0.99 * 0.99.
    torch.testing.assert_close(next(online.encoder.parameters()).flatten()[0].item(), 0.9801)


def dead(network: MLPIQNetwork) -> MLPIQNetwork:
    """Units of the first layer that nothing wakes: leaky units of small weights, among the head's living ones."""
    with torch.no_grad():
        network.encoder.layers[0].weight[4:].zero_()
        network.encoder.layers[0].bias[4:].zero_()
    return network


def test_dormant_units_bring_a_reset() -> None:
    """Half of the encoder's 8 units are silent: with the projection's 8 and the streams' 8 and 8, 4 of 32 at least."""
    torch.manual_seed(0)
    alive = MLPIQNetwork(4, 2, hidden_sizes=(8,), head_size=8)
    online = dead(MLPIQNetwork(4, 2, hidden_sizes=(8,), head_size=8))
    states = torch.randn(64, 4)
    budget = ReuseBudget(uses_per_transition=1)
    hook = DormantReset(lambda: alive, above_share=0.1, every_frames=100, share=1.0, extra_transitions=64)
    training = training_of(online, budget)
    diagnostics = training.algorithm.diagnostics = Diagnostics(online, [states])
    assert diagnostics.dormant_share() >= 4 / 32
    before = online.encoder.layers[0].weight.clone()
    for training.frames in (50, 99):
        hook.after_batch(training)
    assert torch.equal(online.encoder.layers[0].weight, before)
    training.frames = 100
    hook.after_batch(training)
    assert hook.num_resets == 1
    assert torch.equal(online.encoder.layers[0].weight, alive.encoder.layers[0].weight)
    assert budget.num_updates(64) == 1
    assert diagnostics.dormant_share() <= 0.1
    for training.frames in (150, 200, 300):
        hook.after_batch(training)
    assert (hook.num_resets, hook.num_looks) == (1, 3)
    resumed = DormantReset(lambda: alive, above_share=0.1, every_frames=100)
    resumed.load_state_dict(hook.state_dict())
    assert (resumed.num_resets, resumed.num_looks) == (1, 3)


def test_looking_leaves_the_churn_alone() -> None:
    diagnostics = Diagnostics(network(0.5), [torch.randn(8, 4)])
    diagnostics.dormant_share()
    assert "policy_churn" not in diagnostics.measure()


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"above_share=1\.0"):
        DormantReset(lambda: network(0.0), above_share=1.0, every_frames=1)
    with pytest.raises(ValueError, match="share=2"):
        SoftReset(lambda: network(0.0), every_frames=1, share=2)
    with pytest.raises(ValueError, match="every_frames=0"):
        SoftReset(lambda: network(0.0), every_frames=0)
