"""Soft resets: the mixture, the last layers, the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tm_torchrl.algorithms import QuantileAlgorithm
from tm_torchrl.data import ReuseBudget
from tm_torchrl.modules import MLPIQNetwork
from tm_torchrl.trainers.hooks.soft_reset import SoftReset, last_layers


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


def test_messages() -> None:
    with pytest.raises(ValueError, match="share=2"):
        SoftReset(lambda: network(0.0), every_frames=1, share=2)
    with pytest.raises(ValueError, match="every_frames=0"):
        SoftReset(lambda: network(0.0), every_frames=0)
