"""Losses and actors accept a time axis ``[B, T]``; no time is folded away before the network has seen it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torchrl.data import Categorical
from torchrl.modules import GRUModule, LSTMModule, set_recurrent_mode

from tm_torchrl.modules import (
    Decoder,
    FixedHead,
    FloatEncoder,
    MidpointFractions,
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


RECURRENT = {
    "lstm": (LSTMModule, ["recurrent_state_h", "recurrent_state_c"]),
    "gru": (GRUModule, ["recurrent_state_h"]),
}
every_cell = pytest.mark.parametrize("cell", RECURRENT)


def recurrent_loss(cell: str, estimator: str, *, loss_class: Any = QRDQNLoss, **options: Any) -> Any:
    """A loss of a feature, a recurrent layer of TorchRL and our actor; its target network is another network."""
    torch.manual_seed(0)
    module, states = RECURRENT[cell]
    outputs = [("next", key) for key in states]
    layer = module(4, 6, in_keys=["feature", *states], out_keys=["embed", *outputs])
    feature = TensorDictModule(nn.Linear(4, 4), in_keys=["observation"], out_keys=["feature"])
    network = MLPIQNetwork if loss_class is IQNLoss else MLPQRNetwork
    actor = QuantileActor(network(6, 2, hidden_sizes=(8,), head_size=8), spec=Categorical(2), in_keys=["embed"])
    loss = loss_class(TensorDictSequential(feature, layer, actor), reduction="none", **options)
    for value in loss.target_value_network_params.values(True, True):
        value.data.add_(0.2 * torch.randn_like(value))
    return loss.make_value_estimator(estimator, gamma=0.9)


def recurrent_batch(cell: str, *shape: int) -> TensorDict:
    """Steps with their states; the second row holds the start of an episode in its middle."""
    steps = batch(*shape)
    steps["is_init"] = torch.zeros(*shape, 1, dtype=torch.bool)
    steps["next", "is_init"] = torch.zeros(*shape, 1, dtype=torch.bool)
    steps["is_init"][1, 2] = True
    for key in RECURRENT[cell][1]:
        steps[key], steps["next", key] = torch.randn(2, *shape, 1, 6)
    return steps


@every_cell
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_recurrent_rows_do_not_mix(cell: str, estimator: str) -> None:
    """A batch of rows, each row alone, and each episode alone from its stored state, cost the same."""
    loss, sequences = recurrent_loss(cell, estimator), recurrent_batch(cell, 3, 5)
    together = loss(sequences)["loss"]
    rows = torch.cat([loss(row)["loss"] for row in sequences.split(1)])
    torch.testing.assert_close(together, rows)
    parts = [loss(part.unsqueeze(0))["loss"] for part in (sequences[1, :2], sequences[1, 2:])]
    torch.testing.assert_close(together[1], torch.cat(parts, 1).squeeze(0))
    torch.testing.assert_close(loss(sequences[0])["loss"], together[0])  # one sequence [T]
    # Rows one after the other, whose starts are marked as TorchRL's SliceSampler marks them.
    sequences["is_init"][:, 0] = True
    torch.testing.assert_close(loss(sequences.reshape(-1))["loss"], together.flatten())
    together.sum().backward()
    gradients = {name: value.grad for name, value in loss.named_parameters()}
    assert all(bool((value != 0).any()) for value in gradients.values()), "of the feature and the cell, too"


@every_cell
def test_greedy_recurrent_targets_by_hand(cell: str) -> None:
    loss, steps = recurrent_loss(cell, "greedy"), recurrent_batch(cell, 3, 5)
    network = loss.value_network
    with set_recurrent_mode(True):
        target = loss.value_estimator.value_estimate(steps, loss.target_value_network_params)
    after = steps["next"].copy()
    after["is_init"] = steps["is_init"]
    with loss.target_value_network_params.to_module(network), set_recurrent_mode(True), torch.no_grad():
        values = network[2].quantile_module(network[1](network[0](after)))["quantile_values"]
    best = values.mean(-2).argmax(-1)
    chosen = values.gather(-1, best[..., None, None].expand(*values.shape[:-1], 1)).squeeze(-1)
    torch.testing.assert_close(target, (steps["next", "reward"] + 0.9 * chosen).flatten(0, 1))


def test_iqn_of_a_policy_of_parts() -> None:
    loss = recurrent_loss("lstm", "munchausen", loss_class=IQNLoss, source=MidpointFractions())
    sequences = recurrent_batch("lstm", 3, 5)
    found = loss(sequences)["loss"]
    assert found.shape == (3, 5) and sequences["td_error"].shape == (3, 5, 1)
    torch.testing.assert_close(found, torch.cat([loss(row)["loss"] for row in sequences.split(1)]))
    assert loss.num_fractions == 8 and not loss.is_one_hot


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_sequential_of_one_actor_is_the_actor(estimator: str) -> None:
    found = []
    for wrap in (lambda actor: actor, TensorDictSequential, lambda a: TensorDictSequential(TensorDictSequential(a))):
        torch.manual_seed(0)
        loss = IQNLoss(wrap(QuantileActor(MLPIQNetwork(4, 2), spec=Categorical(2)))).make_value_estimator(estimator)
        found.append(loss(batch(6))["loss"])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


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
