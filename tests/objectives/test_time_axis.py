"""Losses and actors accept a time axis ``[B, T]``; no time is folded away before the network has seen it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torchrl.data import Categorical

from tm_torchrl.modules import (
    Decoder,
    FixedHead,
    FloatEncoder,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPQRNetwork,
    MultiEncoder,
    QuantileActor,
    QuantileNetwork,
)
from tm_torchrl.objectives import FQFLoss, IQNLoss, QRDQNLoss

ESTIMATORS = ("greedy", "double", "soft", "munchausen")


def batch(*shape: int) -> TensorDict:
    torch.manual_seed(1)
    after = {"observation": torch.randn(*shape, 4), "reward": torch.randn(*shape, 1)}
    ends = {name: torch.zeros(*shape, 1, dtype=torch.bool) for name in ("done", "terminated")}
    action = torch.randint(2, shape)
    return TensorDict({"observation": torch.randn(*shape, 4), "action": action, "next": {**after, **ends}}, shape)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("network", "loss"), [(MLPIQNetwork, IQNLoss), (MLPQRNetwork, QRDQNLoss), (MLPFQFNetwork, FQFLoss)]
)
def test_a_sequence_batch_costs_what_its_steps_cost(network: Any, loss: Any, estimator: str) -> None:
    torch.manual_seed(0)
    module = loss(QuantileActor(network(4, 2), spec=Categorical(2)), reduction="none")
    module.make_value_estimator(estimator)
    sequences = batch(3, 5)
    torch.manual_seed(2)
    found = module(sequences)["loss"]
    torch.manual_seed(2)
    flat = module(sequences.reshape(-1))["loss"]
    assert found.shape == (3, 5)
    torch.testing.assert_close(found.flatten(), flat, rtol=0, atol=0)
    assert sequences["td_error"].shape == (3, 5, 1)


class LastDifference(nn.Module):
    """Reads time: the features of a step are its observation less the one before in its sequence."""

    reads_time = True
    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, observation: Tensor) -> Tensor:
        self.shapes.append(tuple(observation.shape))
        if observation.ndim == 2:
            return observation
        before = torch.cat([torch.zeros_like(observation[:, :1]), observation[:, :-1]], 1)
        return observation - before


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_network_that_reads_time_sees_sequences(estimator: str) -> None:
    torch.manual_seed(0)
    encoder = LastDifference()
    network = QuantileNetwork(encoder, FixedHead(Decoder(4, 2, num_outputs=8)))
    module = QRDQNLoss(QuantileActor(network, spec=Categorical(2))).make_value_estimator(estimator)
    sequences = batch(3, 5)
    module(sequences)["loss"].backward()
    assert {shape[1:] for shape in encoder.shapes} == {(5, 4)}, "never [B * T, F]"
    first = module(sequences)["loss"]
    shuffled = sequences.clone()
    shuffled["observation"][:, 0] += 1.0  # changes the features of the second step too
    assert not torch.equal(module(shuffled)["loss"], first)


def test_the_actor_keeps_sequences_in_shape() -> None:
    encoder = LastDifference()
    actor = QuantileActor(QuantileNetwork(encoder, FixedHead(Decoder(4, 2, num_outputs=8))), spec=Categorical(2))
    assert actor(batch(3, 5))["action"].shape == (3, 5)
    assert encoder.shapes == [(3, 5, 4)]


def test_a_third_modality_is_a_further_entry() -> None:
    torch.manual_seed(0)
    encoders = {
        key: FloatEncoder(size, hidden_sizes=[8]) for key, size in (("a", 3), ("b", 2), (("lidar", "front"), 5))
    }
    encoder = MultiEncoder(encoders)
    network = QuantileNetwork(encoder, FixedHead(Decoder(24, 2, num_outputs=8)))
    actor = QuantileActor(network, spec=Categorical(2), in_keys=encoder.in_keys)
    seen = {"a": torch.randn(6, 3), "b": torch.randn(6, 2), "lidar": {"front": torch.randn(6, 5)}}
    steps = TensorDict({**seen, "next": {**seen}}, [6])
    actor(steps)
    assert steps["action"].shape == (6,)
    steps["next", "reward"] = torch.ones(6, 1)
    steps["next", "done"] = steps["next", "terminated"] = torch.zeros(6, 1, dtype=torch.bool)
    QRDQNLoss(actor)(steps)["loss"].backward()
    assert "lidar_front.layers.0.weight" in dict(encoder.named_parameters())
    with pytest.raises(KeyError, match="front"):
        actor(steps.exclude(("lidar", "front")))
