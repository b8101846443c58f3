"""Sizes, names and parts that cannot be meant so: constructors refuse them by name and say what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from torch import nn
from torchrl.data import Categorical

from tm_torchrl.modules import (
    ImpalaEncoder,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPQRNetwork,
    PixelEncoder,
    QuantileActor,
    ResidualTrunk,
)

SEEING = partial(MLPIQNetwork, None, 12, image_shape=(1, 64, 64))
CASES: dict[str, tuple[Callable[[], object], str]] = {
    "image without pixels": (partial(PixelEncoder, image_size=0), "image_size=0: a whole number of at least 1"),
    "image and a half": (partial(PixelEncoder, image_size=64.5), "image_size=64.5: a whole number"),
    "image too small": (partial(PixelEncoder, image_size=33), "too small for four convolutions; 34 is the least"),
    "no channels": (partial(PixelEncoder, channels=0), "channels=0: a whole number"),
    "half a width": (partial(ImpalaEncoder, width=1.5), "width=1.5: a whole number of at least 1"),
    "pool larger than the map": (partial(ImpalaEncoder, pooling="max", pool_size=9), "a map of 8 x 8; give 1 to 8"),
    "pool of a half": (
        partial(ImpalaEncoder, pooling="average", pool_size=2.5),
        "pool_size=2.5: the last .* give 1 to 8",
    ),
    "activation misspelt": (partial(ImpalaEncoder, activation="rel"), "did you mean 'relu'"),
    "activation far off": (partial(MLPIQNetwork, 4, 2, activation="swish"), "unknown; one of 'crelu', 'gelu'"),
    "no activation": (partial(MLPIQNetwork, 4, 2, activation=None), "activation=None: one of 'crelu'"),
    "activation made already": (
        partial(MLPIQNetwork, 4, 2, activation=nn.ReLU()),
        r"activation=ReLU\(\.\.\.\): one of 'crelu', 'gelu', 'leaky_relu', 'relu', or a function that makes one, is",
    ),
    "linear is a number": (partial(MLPIQNetwork, 4, 2, linear=3), "linear=3: one of 'linear', 'noisy'"),
    "encoder made already": (partial(SEEING, image=ImpalaEncoder()), r"image=ImpalaEncoder\(\.\.\.\): a function that"),
    "encoder is a number": (partial(SEEING, image=3), "image=3: a function that makes one is wanted"),
    "trunk made already": (partial(MLPIQNetwork, 4, 2, trunk=ResidualTrunk(256)), r"trunk=ResidualTrunk\(\.\.\.\)"),
    "no floats": (partial(MLPIQNetwork, 0, 2), "num_inputs=0: a whole number of at least 1"),
    "layer of nothing": (partial(MLPIQNetwork, 4, 2, hidden_sizes=(8, 0)), r"hidden_sizes=\(8, 0\): a list of whole"),
    "no layers": (partial(MLPQRNetwork, 4, 2, hidden_sizes=()), r"hidden_sizes=\(\): a list of whole"),
    "layers are no list": (partial(MLPIQNetwork, 4, 2, hidden_sizes=256), "hidden_sizes=256: a list of whole numbers"),
    "layers are words": (partial(MLPIQNetwork, 4, 2, hidden_sizes="ab"), "hidden_sizes='ab': a list of whole numbers"),
    "head of nothing": (partial(MLPIQNetwork, 4, 2, head_size=0), "head_size=0: a whole number of at least 1"),
    "head below nothing": (partial(MLPQRNetwork, 4, 2, head_size=-1), "head_size=-1: a whole number of at least 1"),
    "no fractions": (partial(MLPIQNetwork, 4, 2, num_fractions=0), "num_fractions=0: a whole number of at least 1"),
    "acting without fractions": (
        partial(QuantileActor, MLPIQNetwork(4, 2), spec=Categorical(2), num_fractions=0),
        "num_fractions=0: a whole number of at least 1",
    ),
    "acting at other fractions than proposed": (
        partial(QuantileActor, MLPFQFNetwork(4, 2, num_fractions=8), spec=Categorical(2), num_fractions=4),
        "num_fractions=4: the network acts at the 8 that it proposes; leave it out",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_arguments_are_refused_by_name(name: str) -> None:
    make, message = CASES[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_what_a_refusal_is_near_to_still_works() -> None:
    assert PixelEncoder(image_size=34).num_features == 32
    assert ImpalaEncoder(pooling="max", pool_size=8).num_features == 8 * 8 * 32
    actor = QuantileActor(MLPFQFNetwork(4, 2, num_fractions=8), spec=Categorical(2), num_fractions=8)
    assert actor.num_fractions == 8
