"""Quantile networks and their parts, for any TorchRL project. Imports torch only when used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.modules.actor import QuantileActor, QuantileModule
    from tm_torchrl.modules.cores.mamba import Mamba
    from tm_torchrl.modules.cores.recurrent import GRU, LSTM
    from tm_torchrl.modules.encoders.backbones import TimmEncoder, TransformersEncoder
    from tm_torchrl.modules.encoders.floats import FloatEncoder, Normalize
    from tm_torchrl.modules.encoders.impala import ImpalaEncoder
    from tm_torchrl.modules.encoders.multi import MultiEncoder, PixelFloatEncoder
    from tm_torchrl.modules.encoders.pixels import PixelEncoder, SmallPixelEncoder
    from tm_torchrl.modules.encoders.trunk import ResidualTrunk
    from tm_torchrl.modules.encoders.vit import ViTEncoder
    from tm_torchrl.modules.exploration import Boltzmann, EpsilonGreedy, NoisyExploration, PerturbedValues
    from tm_torchrl.modules.fusion.fusion import PostConcat, Unified
    from tm_torchrl.modules.layers.activations import CReLU
    from tm_torchrl.modules.layers.initialization import orthogonal_
    from tm_torchrl.modules.layers.noisy import NoisyLinear, reset_noise
    from tm_torchrl.modules.layers.spectral_norm import SpectralConv2d
    from tm_torchrl.modules.layers.style import LayerStyle
    from tm_torchrl.modules.layers.transformer import TokenStream
    from tm_torchrl.modules.networks import MLPFQFNetwork, MLPIQNetwork, MLPNQNetwork, MLPQRNetwork
    from tm_torchrl.modules.policy_value import PolicyActor, PolicyValueModule, PolicyValueNetwork, SamplingPolicy
    from tm_torchrl.modules.quantiles.conditioning import FiLM, Hadamard
    from tm_torchrl.modules.quantiles.decoder import Decoder, DuelingDecoder
    from tm_torchrl.modules.quantiles.distortion import CPW, CVaR, Power, RiskDistortion, Wang
    from tm_torchrl.modules.quantiles.embedding import CosineEmbedding
    from tm_torchrl.modules.quantiles.fractions import (
        FractionProposal,
        FractionSource,
        MidpointFractions,
        StratifiedFractions,
        UniformFractions,
    )
    from tm_torchrl.modules.quantiles.heads import FixedHead, ImplicitHead, MonotoneHead
    from tm_torchrl.modules.quantiles.network import QuantileNetwork, Quantiles
    from tm_torchrl.modules.quantiles.slots import SlotMixer
    from tm_torchrl.modules.vision import ImageDecoder, VisionActor, VisionNetwork

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
