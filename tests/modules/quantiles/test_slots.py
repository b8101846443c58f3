"""Action blocks: mixers and values for each slot in every family; by hand, in a gradient step, and exported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchrl.envs import ExplorationType, set_exploration_type

from tests.modules.test_matrix import FAMILIES, learn, small
from tm_torchrl.modules import (
    CReLU,
    Decoder,
    DuelingDecoder,
    LayerStyle,
    SlotMixer,
    reset_noise,
)
from tm_torchrl.modules.quantiles.slots import MIXERS
from tm_torchrl.objectives.actions import values_of

NUM_SLOTS = 5
STATES, KEYS = torch.randn(6, 4, generator=torch.Generator().manual_seed(3)), ["observation"]

every_mixer = pytest.mark.parametrize("mixer", [None, *MIXERS])
every_family = pytest.mark.parametrize("family", FAMILIES)


def test_a_shared_linear_layer_is_averaged_over_slots_by_hand() -> None:
    # Feature 2; weights 1, 2, 3 (slot 0), 4, 5, 6 (slot 1), bias 0.5: slot 0 is worth 2.5, 4.5, 6.5, slot 1 8.5, 10.5,
    # 12.5. The block (2, 0) is worth (6.5 + 8.5) / 2 = 7.5, the best, (2, 2), (6.5 + 12.5) / 2 = 9.5.
    decoder = Decoder(1, 3, num_slots=2, hidden_size=None)
    with torch.no_grad():
        decoder.advantage[0].weight.copy_(torch.arange(1.0, 7).view(6, 1))
        decoder.advantage[0].bias.fill_(0.5)
    values = decoder(torch.tensor([[[2.0]]]))  # [B, N, S, A]
    assert values.tolist() == [[[[2.5, 4.5, 6.5], [8.5, 10.5, 12.5]]]]
    assert values_of(values, torch.tensor([[2, 0]])).tolist() == [[7.5]]
    assert values_of(values, values.mean(1).argmax(-1)).tolist() == [[9.5]]


def set_by_hand(mix: Any, kind: str) -> None:
    if kind == "mlp":  # the hidden layers pass their slot on; the outputs of slot i multiply it by i
        for i, layers in enumerate(mix.layers):
            layers[0].weight.copy_(torch.eye(2))
            layers[2].weight.copy_(i * torch.eye(2))
    elif kind == "conv":  # channel 0 gets 10 times channel 0 of the slot before and 100 times that of the slot behind
        mix.convolution.weight[0, 0].copy_(torch.tensor([10.0, 0.0, 100.0]))
    elif kind == "gru":  # the candidate's bias is large (tanh 1), the update gate 1/2: the state goes 1/2, 3/4, 7/8
        mix.cell.bias_ih[4:].fill_(100.0)
    elif kind == "attention":  # equal queries and keys: every slot sees the mean of the slots, (2, 3)
        mix.seen.weight[4:].copy_(torch.eye(2))
        mix.output.weight.copy_(torch.eye(2))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("embedding", [[1, 2], [2, 3], [3, 4]]),
        ("mlp", [[1, 2], [4, 6], [9, 12]]),
        ("conv", [[1 + 200, 2], [2 + 10 + 300, 3], [3 + 20, 4]]),
        ("gru", [[1.5, 2.5], [2.75, 3.75], [3.875, 4.875]]),
        ("attention", [[3, 5], [4, 6], [5, 7]]),
    ],
)
def test_mixers_by_hand(kind: str, expected: list[list[float]]) -> None:
    # 3 slots of size 2, which before they are mixed are (1, 2), (2, 3), (3, 4).
    mixer = SlotMixer(1, 3, kind=kind, size=2)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
        mixer.project.weight.copy_(torch.tensor([[1.0], [2.0]]))
        mixer.embedding.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
        set_by_hand(mixer.mix, kind)
    torch.testing.assert_close(mixer(torch.tensor([[1.0]])), torch.tensor([expected]).float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("embedding", [2]),
        ("mlp", [2]),
        ("conv", [1, 2, 3]),
        ("gru", [2, 3, 4]),
        ("attention", [0, 1, 2, 3, 4]),
    ],
)
def test_which_slots_a_slot_reaches(kind: str, seen: list[int]) -> None:
    torch.manual_seed(0)
    mixer, feature = SlotMixer(3, 5, kind=kind, size=8), torch.randn(1, 3)
    before = mixer(feature)
    with torch.no_grad():
        mixer.embedding[2] += 0.5 * torch.randn(8)
    assert (mixer(feature) != before).any(-1).any(0).nonzero().flatten().tolist() == seen


@every_mixer
@pytest.mark.parametrize("num_outputs", [None, 4])
@pytest.mark.parametrize("value_per_slot", [False, True])
def test_dueling_holds_for_each_slot(mixer: str | None, num_outputs: int | None, value_per_slot: bool) -> None:
    options: dict[str, Any] = {"num_outputs": num_outputs, "num_slots": NUM_SLOTS, "hidden_size": 8, "mixer": mixer}
    decoder = DuelingDecoder(16, 3, **options, value_per_slot=value_per_slot)
    features = torch.randn(7, 2, 16)
    values = decoder(features)
    assert values.shape == (7, 2, *((4,) if num_outputs else ()), NUM_SLOTS, 3)
    expected = decoder.value(features).reshape(7, 2, num_outputs or 1, NUM_SLOTS if value_per_slot else 1)
    found = values.mean(-1).reshape(7, 2, num_outputs or 1, NUM_SLOTS)
    assert torch.allclose(found, expected.expand_as(found), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mixer", MIXERS)
def test_outputs_of_a_mixed_decoder_are_in_order(mixer: str) -> None:
    # The bias of output k and action a is 10 k + a, and the weights are 0.
    decoder = Decoder(4, 3, num_outputs=2, num_slots=NUM_SLOTS, mixer=mixer)
    with torch.no_grad():
        decoder.advantage[-1].weight.zero_()
        decoder.advantage[-1].bias.copy_(torch.tensor([0.0, 1, 2, 10, 11, 12]))
    expected = [[[[0, 1, 2]] * NUM_SLOTS, [[10, 11, 12]] * NUM_SLOTS]]
    assert decoder(torch.zeros(1, 4)).tolist() == expected


@every_family
@every_mixer
@pytest.mark.parametrize(
    "options",
    [{}, {"value_per_slot": True, "layer_norm": True}, {"dueling": False}, {"linear": "noisy", "activation": "crelu"}],
    ids=str,
)
def test_networks_of_blocks_learn_in_every_parameter(family: str, mixer: str | None, options: dict[str, Any]) -> None:
    network = small(family, num_slots=NUM_SLOTS, mixer=mixer, **options)
    assert network(STATES).shape == (6, NUM_SLOTS, 3, 4)
    assert network.act(STATES).shape == (6, NUM_SLOTS)
    learn(family, network, KEYS, num_slots=NUM_SLOTS)


@pytest.mark.parametrize("mixer", MIXERS)
def test_noise_of_its_own_for_each_row(mixer: str) -> None:
    torch.manual_seed(0)
    network = small("iqn", num_slots=NUM_SLOTS, mixer=mixer, linear="noisy")
    same, fractions = STATES[:1].expand(3, -1), torch.full((3, 4), 0.5)
    with set_exploration_type(ExplorationType.RANDOM):
        reset_noise(network)
        shared = network(same, fractions=fractions)
        reset_noise(network, num_rows=3)
        own = network(same, fractions=fractions)
    assert torch.equal(shared[0], shared[1])
    assert not torch.allclose(own[0], own[1])
    assert torch.allclose(own[..., :1], own[..., 1:], rtol=0, atol=1e-5)  # fractions of a row share its noise


@pytest.mark.parametrize("mixer", MIXERS)
def test_output_layers_stay_float32_under_autocast(mixer: str) -> None:
    decoder = Decoder(8, 3, num_slots=NUM_SLOTS, mixer=mixer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert decoder(torch.randn(2, 8)).dtype == torch.float32


def test_names_of_blocks_without_mixer_stay() -> None:
    names = {
        f"{stream}.{layer}.{kind}"
        for stream in ("advantage", "value")
        for layer in (0, 2)
        for kind in ("weight", "bias")
    }
    for slots in (None, 5):
        state = small("iqn", num_slots=slots).head.decoder.state_dict()
        assert set(state) == names
        assert state["advantage.2.weight"].shape == (3 * (slots or 1), 8)
        assert state["value.2.weight"].shape == (1, 8)


def test_a_mixer_of_another_size() -> None:
    def wide(*arguments: Any, **options: Any) -> SlotMixer:
        return SlotMixer(*arguments, kind="gru", size=10, **options)

    network = small("qrdqn", head_size=None, num_slots=NUM_SLOTS, mixer=wide)
    assert network.head.decoder.advantage[-1].in_features == 10
    assert network(STATES).shape == (6, NUM_SLOTS, 3, 4)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("activation", ["leaky_relu", "crelu"])
def test_activations_see_units_last(mixer: str, activation: str) -> None:
    decoder = Decoder(4, 3, num_slots=NUM_SLOTS, hidden_size=8, mixer=mixer, style=LayerStyle(activation))
    shapes: list[tuple[int, ...]] = []
    for module in decoder.modules():
        if isinstance(module, (nn.LeakyReLU, CReLU)):
            module.register_forward_hook(lambda module, seen, out: shapes.append(tuple(out.shape)))
    decoder(torch.zeros(7, 4))
    of_slots = {"mlp": [(7, 64)] * NUM_SLOTS, "conv": [(7, NUM_SLOTS, 64)]}
    assert shapes == [(7, 8), (7, NUM_SLOTS, 64), *of_slots.get(mixer, [])]
