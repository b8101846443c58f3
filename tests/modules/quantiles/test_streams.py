"""Streams of the decoder by transformers: they learn, mix with all other options, and check their sizes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from tests.modules.test_matrix import learn, small
from tm_torchrl.modules import MLPIQNetwork, PolicyValueNetwork, TokenStream

STREAM = partial(TokenStream, size=4, num_heads=2)
CASES: list[tuple[str, dict[str, Any]]] = [
    ("iqn", {"advantage_stream": STREAM, "value_stream": STREAM}),
    ("iqn", {"value_stream": STREAM, "linear": "noisy", "noisy_value": "hidden"}),
    ("iqn", {"advantage_stream": STREAM, "num_slots": 5, "mixer": "attention"}),
    ("fqf", {"advantage_stream": STREAM, "layer_norm": True}),
    ("qrdqn", {"advantage_stream": STREAM, "dueling": False}),
    ("nq", {"advantage_stream": STREAM, "value_stream": STREAM, "head_size": None}),
]


@pytest.mark.parametrize(("family", "options"), CASES, ids=str)
def test_every_parameter_learns(family: str, options: dict[str, Any]) -> None:
    learn(family, small(family, activation="gelu", **options), ["observation"], num_slots=options.get("num_slots"))


def test_tokens_are_parts_of_the_features() -> None:
    """Without blocks of attention a change of features 4 to 7 would leave tokens 0 and 2 as they are."""
    stream = TokenStream(12, size=4, num_heads=2)
    seen: list[torch.Tensor] = []
    stream.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = torch.randn(2, 12)
    assert stream(features).shape == (2, 4)
    features[:, 5] += 1.0
    stream(features)
    assert (seen[0] != seen[1]).any(-1)[0].tolist() == [False, True, False]


def test_policy_and_value() -> None:
    network = PolicyValueNetwork(4, 3, hidden_sizes=(8,), advantage_stream=STREAM, value_stream=STREAM)
    logits, value = network(torch.randn(5, 4))
    assert (logits.shape, value.shape) == ((5, 3), (5, 1))
    assert logits.std(-1).max() < 0.1, "all actions begin nearly equally likely"
    (logits.square().sum() + value.sum()).backward()
    assert [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"advantage_stream": "transfomer"}, "advantage_stream='transfomer': unknown; did you mean transformer?"),
        ({"value_stream": partial(TokenStream, size=48)}, "value_stream: size=48: the 256 features cannot be cut"),
        ({"value_stream": partial(TokenStream, size=256)}, "value_stream: size=256: the 256 features cannot be cut"),
        ({"advantage_stream": partial(TokenStream, num_heads=3)}, "advantage_stream: num_heads=3"),
        ({"advantage_stream": partial(TokenStream, num_layers=0)}, "advantage_stream: num_layers=0"),
    ],
)
def test_streams_that_cannot_be(options: dict[str, Any], message: str) -> None:
    for network in (MLPIQNetwork, PolicyValueNetwork):
        with pytest.raises(ValueError, match="stream") as caught:
            network(4, 2, **options)
        assert str(caught.value).startswith(message)


def test_no_value_without_dueling() -> None:
    with pytest.raises(ValueError, match="value_stream"):
        MLPIQNetwork(4, 2, dueling=False, value_stream="transformer")
