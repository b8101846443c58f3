"""Invalid sizes, names and parts: constructors raise an error that names the argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest
from torch import nn
from torchrl.data import Categorical

from tm_torchrl.modules import (
    FiLM,
    FloatEncoder,
    Hadamard,
    ImpalaEncoder,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPQRNetwork,
    Normalize,
    PixelEncoder,
    QuantileActor,
    ResidualTrunk,
    SlotMixer,
)

WITH_IMAGES = partial(MLPIQNetwork, None, 12, image_shape=(1, 64, 64))
CASES: list[tuple[Callable[[], object], str]] = [
    (partial(PixelEncoder, image_size=0), "image_size=0"),
    (partial(PixelEncoder, image_size=64.5), "image_size=64.5"),
    (partial(PixelEncoder, image_size=33), "image_size=33"),
    (partial(PixelEncoder, channels=0), "channels=0"),
    (partial(PixelEncoder, pooling="max"), "pool_size=6"),  # the default, which is larger than the map of 4 x 4
    (partial(PixelEncoder, spectral_norm="residual"), "spectral_norm='residual'"),
    (partial(ImpalaEncoder, image_size=0), "image_size=0"),
    (partial(ImpalaEncoder, width=1.5), "width=1.5"),
    (partial(ImpalaEncoder, width=0), "width=0"),
    (partial(ImpalaEncoder, image_size=16, pooling="average"), "pool_size=6"),
    (partial(ImpalaEncoder, pooling="max", pool_size=0), "pool_size=0"),
    (partial(ImpalaEncoder, pooling="max", pool_size=9), "pool_size=9"),
    (partial(ImpalaEncoder, pooling="average", pool_size=2.5), "pool_size=2.5"),
    (partial(ImpalaEncoder, pooling="flatten", pool_size=6), "pool_size=6: pooling='flatten'"),
    (partial(ImpalaEncoder, pooling="maxx"), "pooling='maxx': unknown; did you mean max?"),
    (partial(ImpalaEncoder, spectral_norm="al"), "spectral_norm='al'"),
    (partial(ImpalaEncoder, activation="rel"), "activation='rel': unknown; did you mean relu?"),
    (partial(MLPIQNetwork, 4, 2, activation="swish"), "activation='swish'"),
    (partial(MLPIQNetwork, 4, 2, activation=None), "activation=None"),
    (partial(MLPIQNetwork, 4, 2, activation=nn.ReLU()), "activation=ReLU(...)"),
    (partial(MLPIQNetwork, 4, 2, linear=3), "linear=3"),
    (partial(WITH_IMAGES, image=ImpalaEncoder()), "image=ImpalaEncoder(...)"),
    (partial(WITH_IMAGES, image=3), "image=3"),
    (partial(MLPIQNetwork, 4, 2, trunk=ResidualTrunk(256)), "trunk=ResidualTrunk(...)"),
    (partial(MLPIQNetwork, 0, 2), "num_inputs=0"),
    (partial(MLPIQNetwork, 4, 2, hidden_sizes=(8, 0)), "hidden_sizes=(8, 0)"),
    (partial(MLPQRNetwork, 4, 2, hidden_sizes=()), "hidden_sizes=()"),
    (partial(FloatEncoder, 4, hidden_sizes=()), "hidden_sizes=()"),
    (partial(MLPIQNetwork, 4, 2, hidden_sizes=256), "hidden_sizes=256"),
    (partial(MLPIQNetwork, 4, 2, hidden_sizes="ab"), "hidden_sizes='ab'"),
    (partial(MLPIQNetwork, 4, 2, head_size=0), "head_size=0"),
    (partial(MLPQRNetwork, 4, 2, head_size=-1), "head_size=-1"),
    (partial(MLPIQNetwork, 4, 2, num_fractions=0), "num_fractions=0"),
    (partial(QuantileActor, MLPIQNetwork(4, 2), spec=Categorical(2), num_fractions=0), "num_fractions=0"),
    (
        partial(QuantileActor, MLPFQFNetwork(4, 2, num_fractions=8), spec=Categorical(2), num_fractions=4),
        "num_fractions=4",
    ),
    (partial(FloatEncoder, 4, normalize=Normalize([0.0] * 3, [1.0] * 3)), "num_inputs=4"),
    (partial(Normalize, [0.0, 0.0], [1.0, 1.0, 1.0]), "mean (2,), scale (3,)"),
    (partial(Normalize, [0.0] * 3, [0.0, 2.0, 3.0]), "scale[0]=0.0"),
    (partial(Normalize, [0.0] * 3, [1.0, -1.0, 3.0]), "scale[1]=-1.0"),
    (partial(Normalize, [0.0] * 3, [1.0, 2.0, 0.0]), "scale[2]=0.0"),
    (partial(Normalize, [0.0] * 4, [1.0] * 4, columns=[]), "columns=[]"),
    (partial(Normalize, [0.0] * 4, [1.0] * 4, columns=[4]), "columns=[4]"),
    (partial(Normalize, [0.0] * 4, [1.0] * 4, columns=[-1, 2]), "columns=[-1, 2]"),
    (partial(Hadamard, 8, 16, num_layers=0), "num_layers=0"),
    (partial(FiLM, 8, 16, hidden_size=4), "hidden_size=4"),
    (partial(SlotMixer, 4, 5, kind="con"), "kind='con': unknown; did you mean conv?"),
    (partial(SlotMixer, 4, 1, kind="conv"), "num_slots=1"),
    (partial(SlotMixer, 4, 5, kind="conv", size=0), "size=0"),
    (partial(SlotMixer, 4, 5, kind="attention", size=7), "size=7"),  # two heads
]


@pytest.mark.parametrize(("make", "named"), CASES, ids=[f"{i}: {named}" for i, (_, named) in enumerate(CASES)])
def test_bad_arguments_are_named(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(named)):
        make()


def test_the_nearest_valid_arguments_are_accepted() -> None:
    assert PixelEncoder(image_size=34).num_features == 32
    assert ImpalaEncoder(pooling="max", pool_size=8).num_features == 8 * 8 * 32
    actor = QuantileActor(MLPFQFNetwork(4, 2, num_fractions=8), spec=Categorical(2), num_fractions=8)
    assert actor.num_fractions == 8
