"""Invalid sizes, names and parts: constructors raise an error that begins with the argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from torch import nn
from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, MultiOneHot, Unbounded

from tests.modules.quantiles.test_network import NETWORKS, small
from tm_torchrl.modules import (
    CPW,
    Boltzmann,
    CosineEmbedding,
    CVaR,
    Decoder,
    EpsilonGreedy,
    FiLM,
    FixedHead,
    FloatEncoder,
    FractionProposal,
    Hadamard,
    ImpalaEncoder,
    ImplicitHead,
    MidpointFractions,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPQRNetwork,
    MonotoneHead,
    NoisyExploration,
    NoisyLinear,
    Normalize,
    PerturbedValues,
    PixelEncoder,
    QuantileActor,
    QuantileNetwork,
    ResidualTrunk,
    SlotMixer,
    StratifiedFractions,
    UniformFractions,
)

Case = tuple[Callable[[], object], str]
WITH_IMAGES = partial(MLPIQNetwork, None, 12, image_shape=(1, 64, 64))
BLOCKS, SINGLE = small(MLPQRNetwork, num_slots=2), small(MLPQRNetwork)
FIXED = FixedHead(Decoder(16, 3, num_outputs=6))
IMPLICIT = ImplicitHead(CosineEmbedding(8), Hadamard(8, 16), Decoder(16, 3))

ENCODERS: list[Case] = [
    (partial(PixelEncoder, image_size=0), "image_size=0"),
    (partial(PixelEncoder, image_size=64.5), "image_size=64.5"),
    (partial(PixelEncoder, image_size=33), "image_size=33"),
    (partial(PixelEncoder, channels=0), "channels=0"),
    (partial(PixelEncoder, pooling="max"), "pool_size=6"),  # the default, which is larger than the map of 4 x 4
    (partial(PixelEncoder, spectral_norm="residual"), "spectral_norm='residual'"),
    (partial(ImpalaEncoder, image_size=0), "image_size=0"),
    (partial(ImpalaEncoder, width=1.5), "width=1.5"),
    (partial(ImpalaEncoder, width=0), "width=0"),
    (partial(ImpalaEncoder, stem_stride=0), "stem_stride=0"),
    (partial(ImpalaEncoder, image_size=16, pooling="average"), "pool_size=6"),
    (partial(ImpalaEncoder, pooling="max", pool_size=0), "pool_size=0"),
    (partial(ImpalaEncoder, pooling="max", pool_size=9), "pool_size=9"),
    (partial(ImpalaEncoder, pooling="average", pool_size=2.5), "pool_size=2.5"),
    (partial(ImpalaEncoder, pooling="flatten", pool_size=6), "pool_size=6: pooling='flatten'"),
    (partial(ImpalaEncoder, pooling="maxx"), "pooling='maxx': unknown; did you mean max?"),
    (partial(ImpalaEncoder, spectral_norm="al"), "spectral_norm='al'"),
    (partial(ImpalaEncoder, activation="rel"), "activation='rel': unknown; did you mean relu?"),
    (partial(FloatEncoder, 4, hidden_sizes=()), "hidden_sizes=()"),
    (partial(FloatEncoder, 4, normalize=Normalize([0.0] * 3, [1.0] * 3)), "num_inputs=4"),
    (partial(Normalize, [0.0, 0.0], [1.0, 1.0, 1.0]), "mean (2,), scale (3,)"),
    (partial(Normalize, [0.0] * 3, [0.0, 2.0, 3.0]), "scale[0]=0.0"),
    (partial(Normalize, [0.0] * 3, [1.0, -1.0, 3.0]), "scale[1]=-1.0"),
    (partial(Normalize, [0.0] * 3, [1.0, 2.0, 0.0]), "scale[2]=0.0"),
    (partial(Normalize, [0.0] * 4, [1.0] * 4, columns=[]), "columns=[]"),
    (partial(Normalize, [0.0] * 4, [1.0] * 4, columns=[4]), "columns=[4]"),
    (partial(Normalize, [0.0] * 4, [1.0] * 4, columns=[-1, 2]), "columns=[-1, 2]"),
]
NETWORK: list[Case] = [
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
    (partial(MLPIQNetwork, 4, 2, hidden_sizes=256), "hidden_sizes=256"),
    (partial(MLPIQNetwork, 4, 2, hidden_sizes="ab"), "hidden_sizes='ab'"),
    (partial(MLPIQNetwork, 4, 2, head_size=0), "head_size=0"),
    (partial(MLPQRNetwork, 4, 2, head_size=-1), "head_size=-1"),
    (partial(MLPIQNetwork, 4, 2, num_fractions=0), "num_fractions=0"),
    (partial(QuantileNetwork, nn.Linear(4, 16), IMPLICIT), "source=None"),
    (partial(QuantileNetwork, nn.Linear(4, 16), FIXED, source=UniformFractions()), "source=UniformFractions"),
    (
        partial(QuantileNetwork, nn.Linear(4, 8), FixedHead(Decoder(8, 3, num_slots=5, num_outputs=4))),
        "num_slots=None",
    ),
]
OF_EVERY_NETWORK: list[tuple[dict[str, Any], str]] = [
    ({"image": PixelEncoder}, "image_shape=None"),
    ({"image_shape": (1, 64, 64)}, "image_shape=(1, 64, 64)"),
    ({"image": PixelEncoder, "image_shape": (64, 64)}, "image_shape=(64, 64)"),
    ({"image": ImpalaEncoder, "image_shape": (1, 64, 32)}, "image_size=(64, 32)"),
    ({"num_inputs": None}, "num_inputs=None, image=None"),
    ({"activation": "rellu"}, "activation='rellu': unknown; did you mean relu?"),
    ({"activation": "crelu", "hidden_sizes": (7,)}, "activation=CReLU"),
    ({"linear": "nosy"}, "linear='nosy': unknown; did you mean noisy?"),
    ({"noisy_value": True}, "noisy_value=True"),
    ({"noisy_value": "output", "linear": "noisy"}, "noisy_value='output'"),
    ({"noisy_value": True, "dueling": False, "linear": "noisy"}, "noisy_value=True"),
    ({"trunk": partial(ResidualTrunk, num_blocks=0)}, "num_blocks=0"),
    ({"mixer": "gur", "num_slots": 5}, "mixer='gur'"),
    ({"mixer": "gru"}, "mixer='gru', num_slots=None"),
    ({"mixer": "gru", "num_slots": 1}, "mixer='gru', num_slots=1"),
    ({"value_per_slot": True}, "value_per_slot=True, num_slots=None"),
    ({"value_per_slot": True, "num_slots": 5, "dueling": False}, "value_per_slot=True: without dueling"),
]
HEADS: list[Case] = [
    (partial(Hadamard, 8, 16, num_layers=0), "num_layers=0"),
    (partial(FiLM, 8, 16, hidden_size=4), "hidden_size=4"),
    (partial(CosineEmbedding, 0), "num_cosines=0"),
    (partial(CosineEmbedding, 3, first_frequency=2), "first_frequency=2"),
    (partial(Decoder, 4, 0), "num_actions=0"),
    (partial(Decoder, 4, 2, num_slots=0), "num_slots=0"),
    (partial(Decoder, 4, 2, num_outputs=0), "num_outputs=0"),
    (partial(MonotoneHead, Decoder(4, 2)), "decoder: its outputs are (2,); give it num_outputs=3"),
    (partial(MonotoneHead, Decoder(4, 2, num_outputs=2)), "decoder: its outputs are (2, 2); give it num_outputs=3"),
    (partial(SlotMixer, 4, 5, kind="con"), "kind='con': unknown; did you mean conv?"),
    (partial(SlotMixer, 4, 1, kind="conv"), "num_slots=1"),
    (partial(SlotMixer, 4, 5, kind="conv", size=0), "size=0"),
    (partial(SlotMixer, 4, 5, kind="attention", size=7), "size=7"),  # two heads
    (partial(FractionProposal, 4, 1), "num_fractions=1"),
    (partial(StratifiedFractions(), (3,), 7), "num_fractions=7"),  # they are drawn in pairs
    *((partial(source(), (3,), 0), "num_fractions=0") for source in (UniformFractions, MidpointFractions)),
    *((partial(make, eta), f"eta={eta}") for make, eta in ((CVaR, 0.0), (CVaR, 1.5), (CPW, 0.2), (CPW, 1.1))),
]
ACTORS: list[Case] = [
    (partial(QuantileActor, small(MLPIQNetwork), spec=Categorical(3), num_fractions=0), "num_fractions=0"),
    (partial(QuantileActor, small(MLPFQFNetwork), spec=Categorical(3), num_fractions=4), "num_fractions=4"),
    (partial(QuantileActor, SINGLE, spec=Categorical(3), num_fractions=7), "num_fractions=7"),
    (partial(QuantileActor, SINGLE, spec=MultiOneHot([3, 3])), "spec=MultiOneHot: must be Categorical or OneHot"),
    (partial(QuantileActor, SINGLE, spec=Binary(3)), "spec=Binary: must be Categorical or OneHot"),
    (
        partial(QuantileActor, SINGLE, spec=Bounded(-1.0, 1.0, shape=(3,))),
        "spec=BoundedContinuous: must be",
    ),
    (
        partial(QuantileActor, SINGLE, spec=Composite(action=Unbounded(3))),
        "spec=UnboundedContinuous: must be",
    ),
    (partial(QuantileActor, SINGLE, spec=MultiCategorical([3, 3])), "spec=MultiCategorical([3, 3]): the network"),
    (partial(QuantileActor, BLOCKS, spec=MultiCategorical([3, 4])), "spec=MultiCategorical([3, 4]): the actions"),
    (partial(QuantileActor, BLOCKS, spec=Categorical(3)), "spec of shape ()"),
    (partial(QuantileActor, BLOCKS, spec=Categorical(3, shape=(7, 5))), "spec of shape (5,)"),
    (partial(Boltzmann, 0.0), "temperature=0.0"),
    (partial(PerturbedValues, 0.1, scale=0.0), "scale=0.0"),
    (partial(EpsilonGreedy, -0.1), "epsilon=-0.1"),
    *((partial(EpsilonGreedy, 0.1, mean_steps=steps), "mean_steps=") for steps in (0.5, float("inf"), float("nan"))),
    (partial(NoisyLinear, 2, 2, sigma_init=0.0), "sigma_init=0.0"),
    (partial(NoisyExploration, QuantileActor(SINGLE, spec=Categorical(3))), "actor: it has no noisy layers"),
    (
        partial(NoisyExploration, QuantileActor(small(MLPQRNetwork, linear="noisy"), spec=Categorical(3)), every=0),
        "every=0",
    ),
    (
        partial(NoisyExploration, QuantileActor(small(MLPQRNetwork, linear="noisy"), spec=Categorical(3)), patience=0),
        "patience=0",
    ),
]
CASES = [
    *ENCODERS,
    *NETWORK,
    *((partial(small, make, **options), named) for make in NETWORKS for options, named in OF_EVERY_NETWORK),
    *HEADS,
    *ACTORS,
]


@pytest.mark.parametrize(("make", "named"), CASES, ids=[f"{i}: {named}" for i, (_, named) in enumerate(CASES)])
def test_bad_arguments_are_named(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(named)):
        make()


def test_the_nearest_valid_arguments_are_accepted() -> None:
    assert PixelEncoder(image_size=34).num_features == 32
    assert ImpalaEncoder(pooling="max", pool_size=8).num_features == 8 * 8 * 32
    assert QuantileActor(small(MLPFQFNetwork), spec=Categorical(3), num_fractions=6).num_fractions == 6
