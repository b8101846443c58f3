"""Quantile networks and their parts, for any TorchRL project. Imports torch only when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.modules.activations import CReLU
    from tm_torchrl.modules.actor import QuantileActor, QuantileModule
    from tm_torchrl.modules.conditioning import FiLM, Hadamard
    from tm_torchrl.modules.decoder import Decoder, DuelingDecoder
    from tm_torchrl.modules.distortion import CPW, CVaR, Power, RiskDistortion, Wang
    from tm_torchrl.modules.embedding import CosineEmbedding
    from tm_torchrl.modules.encoders import (
        FloatEncoder,
        Normalize,
        PixelEncoder,
        PixelFloatEncoder,
        SmallPixelEncoder,
    )
    from tm_torchrl.modules.exploration import Boltzmann, EpsilonGreedy, NoisyExploration, PerturbedValues
    from tm_torchrl.modules.fractions import (
        FractionProposal,
        FractionSource,
        MidpointFractions,
        StratifiedFractions,
        UniformFractions,
    )
    from tm_torchrl.modules.heads import FixedHead, ImplicitHead, MonotoneHead
    from tm_torchrl.modules.impala import ImpalaEncoder
    from tm_torchrl.modules.initialization import orthogonal_
    from tm_torchrl.modules.mlp import MLPFQFNetwork, MLPIQNetwork, MLPNQNetwork, MLPQRNetwork
    from tm_torchrl.modules.network import QuantileNetwork, Quantiles
    from tm_torchrl.modules.noisy import NoisyLinear, reset_noise
    from tm_torchrl.modules.slots import SlotMixer
    from tm_torchrl.modules.spectral_norm import SpectralConv2d
    from tm_torchrl.modules.trunk import ResidualTrunk

_HOMES = {
    "activations": ("CReLU",),
    "actor": ("QuantileActor", "QuantileModule"),
    "conditioning": ("FiLM", "Hadamard"),
    "decoder": ("Decoder", "DuelingDecoder"),
    "distortion": ("CPW", "CVaR", "Power", "RiskDistortion", "Wang"),
    "embedding": ("CosineEmbedding",),
    "encoders": ("FloatEncoder", "Normalize", "PixelEncoder", "PixelFloatEncoder", "SmallPixelEncoder"),
    "exploration": ("Boltzmann", "EpsilonGreedy", "NoisyExploration", "PerturbedValues"),
    "fractions": (
        "FractionProposal",
        "FractionSource",
        "MidpointFractions",
        "StratifiedFractions",
        "UniformFractions",
    ),
    "heads": ("FixedHead", "ImplicitHead", "MonotoneHead"),
    "impala": ("ImpalaEncoder",),
    "initialization": ("orthogonal_",),
    "mlp": ("MLPFQFNetwork", "MLPIQNetwork", "MLPNQNetwork", "MLPQRNetwork"),
    "network": ("QuantileNetwork", "Quantiles"),
    "noisy": ("NoisyLinear", "reset_noise"),
    "slots": ("SlotMixer",),
    "spectral_norm": ("SpectralConv2d",),
    "trunk": ("ResidualTrunk",),
}
_FILE_OF = {name: file for file, names in _HOMES.items() for name in names}

__all__ = [
    "CPW",
    "Boltzmann",
    "CReLU",
    "CVaR",
    "CosineEmbedding",
    "Decoder",
    "DuelingDecoder",
    "EpsilonGreedy",
    "FiLM",
    "FixedHead",
    "FloatEncoder",
    "FractionProposal",
    "FractionSource",
    "Hadamard",
    "ImpalaEncoder",
    "ImplicitHead",
    "MLPFQFNetwork",
    "MLPIQNetwork",
    "MLPNQNetwork",
    "MLPQRNetwork",
    "MidpointFractions",
    "MonotoneHead",
    "NoisyExploration",
    "NoisyLinear",
    "Normalize",
    "PerturbedValues",
    "PixelEncoder",
    "PixelFloatEncoder",
    "Power",
    "QuantileActor",
    "QuantileModule",
    "QuantileNetwork",
    "Quantiles",
    "ResidualTrunk",
    "RiskDistortion",
    "SlotMixer",
    "SmallPixelEncoder",
    "SpectralConv2d",
    "StratifiedFractions",
    "UniformFractions",
    "Wang",
    "orthogonal_",
    "reset_noise",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_FILE_OF[name]}"), name)
