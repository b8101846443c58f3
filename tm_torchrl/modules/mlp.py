"""Quantile networks for floats, images or both: IQN, QR-DQN, FQF and non-crossing, one family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from tm_torchrl.modules.assembly import (
    ModuleMaker,
    count_features,
    make_decoder,
    make_encoder,
    make_image_encoder,
    make_trunk,
)
from tm_torchrl.modules.encoders.encoders import FloatEncoder, Normalize
from tm_torchrl.modules.layers.activations import Activation, leaky_relu
from tm_torchrl.modules.layers.dense import Initialization, LinearLayer
from tm_torchrl.modules.layers.initialization import orthogonal_
from tm_torchrl.modules.quantiles.conditioning import FiLM, Hadamard
from tm_torchrl.modules.quantiles.decoder import Mixer
from tm_torchrl.modules.quantiles.embedding import CosineEmbedding
from tm_torchrl.modules.quantiles.fractions import FractionProposal, FractionSource, StratifiedFractions
from tm_torchrl.modules.quantiles.heads import FixedHead, ImplicitHead, MonotoneHead
from tm_torchrl.modules.quantiles.network import QuantileNetwork


class _MLPQuantileNetwork(QuantileNetwork):
    """Takes an image, a vector of floats, or both; can act by itself."""

    @torch.no_grad()
    def act(self, *observations: Tensor) -> Tensor:
        """The actions with the highest mean over fractions, for images ``[*B, C, H, W]`` and floats ``[*B, F]``."""
        num_own = [1] if isinstance(self.encoder, FloatEncoder) else [3, 1][: len(observations)]
        shape = observations[0].shape[: -num_own[0]]
        flat = [each.reshape(-1, *each.shape[-own:]) for each, own in zip(observations, num_own, strict=True)]
        action = self.quantiles(*flat).mean().argmax(-1)
        return action.reshape((*shape, *action.shape[1:]))


class MLPIQNetwork(_MLPQuantileNetwork):
    """An implicit quantile network over floats, images or both (Dabney et al. 2018).

    Args:
        num_inputs: F, the number of floats; ``None`` for images alone.
        num_actions: A.
        hidden_sizes: of the floats' encoder; without image the last one is D, the number of features.
        head_size: hidden size of the head; the dueling head has two streams of it.
        num_cosines: of the fraction embedding.
        first_frequency: of the fraction embedding, 1 (Linesight) or 0 (the paper).
        num_fractions: drawn when none are given, so also for acting: the paper's K.
        num_slots: S, the length of an action block; ``None`` for single actions.
        mixer: of the slots: ``SlotMixer``, or ``"embedding"``, ``"mlp"``, ``"conv"``, ``"gru"``, ``"attention"``.
        value_per_slot: a value for each slot of a block instead of one that they share.
        dueling: value and advantage streams.
        conditioning: ``Hadamard`` or ``FiLM``.
        source: of fractions, or a function that makes it from D; ``None`` for ``StratifiedFractions``.
        image: makes the encoder of images, the first observation: ``PixelEncoder`` or ``ImpalaEncoder``; ``None`` for
            floats alone.
        image_shape: ``(channels, height, width)``; only ``PixelEncoder`` takes such that are no squares.
        trunk: makes what stands behind the encoder from D: ``ResidualTrunk``; ``None`` for nothing.
        normalize: the first layer over the floats.
        layer_norm: normalise hidden layers before their activation.
        linear: makes the head's layers: ``nn.Linear`` or ``NoisyLinear``, or ``"linear"`` or ``"noisy"``.
        plain_value_output: the value's last layer is ``nn.Linear`` where the others are noisy.
        activation: makes one, or its name: ``"leaky_relu"``, ``"relu"``, ``"gelu"``, ``"crelu"``.
        initialization: of the weights; ``None`` for torch's own.

    Examples:
        >>> network = MLPIQNetwork(4, 2)
        >>> network(torch.zeros(5, 4), fractions=torch.rand(5, 8)).shape
        torch.Size([5, 2, 8])
        >>> network.act(torch.zeros(4)).shape
        torch.Size([])
    """

    def __init__(
        self,
        num_inputs: int | None,
        num_actions: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        head_size: int = 256,
        num_cosines: int = 64,
        first_frequency: int = 1,
        num_fractions: int = 32,
        num_slots: int | None = None,
        mixer: Mixer | None = None,
        value_per_slot: bool = False,
        dueling: bool = True,
        conditioning: Callable[..., Hadamard | FiLM] = Hadamard,
        source: FractionSource | FractionProposal | Callable[[int], FractionProposal] | None = None,
        image: ModuleMaker | None = None,
        image_shape: Sequence[int] | None = None,
        trunk: ModuleMaker | None = None,
        normalize: Normalize | None = None,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        plain_value_output: bool = False,
        activation: Activation = leaky_relu,
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        pixels = make_image_encoder(
            image, image_shape, num_inputs=num_inputs, activation=activation, initialization=initialization
        )
        num_features = count_features(pixels, num_inputs, hidden_sizes)
        if source is not None and not isinstance(source, (FractionSource, FractionProposal)):
            source = source(num_features)
        encoder = make_encoder(
            pixels,
            num_inputs,
            hidden_sizes=hidden_sizes,
            normalize=normalize,
            layer_norm=layer_norm,
            activation=activation,
            initialization=initialization,
        )
        decoder = make_decoder(
            num_features,
            num_actions,
            dueling=dueling,
            num_slots=num_slots,
            mixer=mixer,
            value_per_slot=value_per_slot,
            hidden_size=head_size,
            layer_norm=layer_norm,
            linear=linear,
            plain_value_output=plain_value_output,
            activation=activation,
            initialization=initialization,
        )
        head = ImplicitHead(
            CosineEmbedding(num_cosines, first_frequency=first_frequency),
            conditioning(num_cosines, num_features, activation=activation, initialization=initialization),
            decoder,
        )
        source = StratifiedFractions() if source is None else source
        super().__init__(
            encoder,
            head,
            source=source,
            num_fractions=num_fractions,
            num_slots=num_slots,
            trunk=make_trunk(trunk, num_features, activation, initialization),
        )


class MLPFQFNetwork(MLPIQNetwork):
    """An implicit network that proposes its own fractions for each state (Yang et al. 2019).

    Args:
        num_inputs: F, the number of floats; ``None`` for images alone.
        num_actions: A.
        hidden_sizes: of the floats' encoder; without image the last one is D, the number of features.
        head_size: hidden size of the head.
        num_cosines: of the fraction embedding.
        num_fractions: N, proposed for each state; 32 in the paper.
        num_slots: S, the length of an action block; ``None`` for single actions.
        mixer: of the slots: ``SlotMixer``, or ``"embedding"``, ``"mlp"``, ``"conv"``, ``"gru"``, ``"attention"``.
        value_per_slot: a value for each slot of a block instead of one that they share.
        dueling: value and advantage streams.
        conditioning: ``Hadamard`` or ``FiLM``.
        image: makes the encoder of images, the first observation: ``PixelEncoder`` or ``ImpalaEncoder``; ``None`` for
            floats alone.
        image_shape: ``(channels, height, width)``; only ``PixelEncoder`` takes such that are no squares.
        trunk: makes what stands behind the encoder from D: ``ResidualTrunk``; ``None`` for nothing.
        normalize: the first layer over the floats.
        layer_norm: normalise hidden layers before their activation.
        linear: makes the head's layers: ``nn.Linear`` or ``NoisyLinear``, or ``"linear"`` or ``"noisy"``.
        plain_value_output: the value's last layer is ``nn.Linear`` where the others are noisy.
        activation: makes one, or its name: ``"leaky_relu"``, ``"relu"``, ``"gelu"``, ``"crelu"``.
        initialization: of the weights; ``None`` for torch's own.

    Examples:
        >>> MLPFQFNetwork(4, 2, num_fractions=8)(torch.zeros(5, 4)).shape
        torch.Size([5, 2, 8])
    """

    def __init__(
        self,
        num_inputs: int | None,
        num_actions: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        head_size: int = 256,
        num_cosines: int = 64,
        num_fractions: int = 32,
        num_slots: int | None = None,
        mixer: Mixer | None = None,
        value_per_slot: bool = False,
        dueling: bool = True,
        conditioning: Callable[..., Hadamard | FiLM] = Hadamard,
        image: ModuleMaker | None = None,
        image_shape: Sequence[int] | None = None,
        trunk: ModuleMaker | None = None,
        normalize: Normalize | None = None,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        plain_value_output: bool = False,
        activation: Activation = leaky_relu,
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__(
            num_inputs,
            num_actions,
            hidden_sizes=hidden_sizes,
            head_size=head_size,
            num_cosines=num_cosines,
            num_fractions=num_fractions,
            num_slots=num_slots,
            mixer=mixer,
            value_per_slot=value_per_slot,
            dueling=dueling,
            conditioning=conditioning,
            source=partial(FractionProposal, num_fractions=num_fractions),
            image=image,
            image_shape=image_shape,
            trunk=trunk,
            normalize=normalize,
            layer_norm=layer_norm,
            linear=linear,
            plain_value_output=plain_value_output,
            activation=activation,
            initialization=initialization,
        )


class MLPQRNetwork(_MLPQuantileNetwork):
    """A QR-DQN over floats, images or both: one output for each of N fixed fractions (Dabney et al. 2018).

    Args:
        num_inputs: F, the number of floats; ``None`` for images alone.
        num_actions: A.
        hidden_sizes: of the floats' encoder; without image the last one is D, the number of features.
        head_size: hidden size of the head; ``None`` for a single layer, as in the paper.
        num_fractions: N; 200 in the paper.
        num_slots: S, the length of an action block; ``None`` for single actions.
        mixer: of the slots: ``SlotMixer``, or ``"embedding"``, ``"mlp"``, ``"conv"``, ``"gru"``, ``"attention"``.
        value_per_slot: a value for each slot of a block instead of one that they share.
        dueling: value and advantage streams.
        image: makes the encoder of images, the first observation: ``PixelEncoder`` or ``ImpalaEncoder``; ``None`` for
            floats alone.
        image_shape: ``(channels, height, width)``; only ``PixelEncoder`` takes such that are no squares.
        trunk: makes what stands behind the encoder from D: ``ResidualTrunk``; ``None`` for nothing.
        normalize: the first layer over the floats.
        layer_norm: normalise hidden layers before their activation.
        linear: makes the head's layers: ``nn.Linear`` or ``NoisyLinear``, or ``"linear"`` or ``"noisy"``.
        plain_value_output: the value's last layer is ``nn.Linear`` where the others are noisy.
        activation: makes one, or its name: ``"leaky_relu"``, ``"relu"``, ``"gelu"``, ``"crelu"``.
        initialization: of the weights; ``None`` for torch's own.

    Examples:
        >>> MLPQRNetwork(4, 2, num_fractions=8)(torch.zeros(5, 4)).shape
        torch.Size([5, 2, 8])
    """

    head_class: type[FixedHead] | type[MonotoneHead] = FixedHead
    num_extra_outputs = 0

    def __init__(
        self,
        num_inputs: int | None,
        num_actions: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        head_size: int | None = 256,
        num_fractions: int = 32,
        num_slots: int | None = None,
        mixer: Mixer | None = None,
        value_per_slot: bool = False,
        dueling: bool = True,
        image: ModuleMaker | None = None,
        image_shape: Sequence[int] | None = None,
        trunk: ModuleMaker | None = None,
        normalize: Normalize | None = None,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        plain_value_output: bool = False,
        activation: Activation = leaky_relu,
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        pixels = make_image_encoder(
            image, image_shape, num_inputs=num_inputs, activation=activation, initialization=initialization
        )
        num_features = count_features(pixels, num_inputs, hidden_sizes)
        encoder = make_encoder(
            pixels,
            num_inputs,
            hidden_sizes=hidden_sizes,
            normalize=normalize,
            layer_norm=layer_norm,
            activation=activation,
            initialization=initialization,
        )
        decoder = make_decoder(
            num_features,
            num_actions,
            dueling=dueling,
            num_slots=num_slots,
            mixer=mixer,
            value_per_slot=value_per_slot,
            num_outputs=num_fractions + self.num_extra_outputs,
            hidden_size=head_size,
            layer_norm=layer_norm,
            linear=linear,
            plain_value_output=plain_value_output,
            activation=activation,
            initialization=initialization,
        )
        super().__init__(
            encoder,
            self.head_class(decoder),
            num_fractions=num_fractions,
            num_slots=num_slots,
            trunk=make_trunk(trunk, num_features, activation, initialization),
        )


class MLPNQNetwork(MLPQRNetwork):
    """Non-crossing quantiles over floats, images or both: a ``MonotoneHead``, constructed as ``MLPQRNetwork``.

    At its own ``num_fractions`` midpoints with ``QRDQNLoss``, or at sampled fractions with ``IQNLoss``.

    Examples:
        >>> values = MLPNQNetwork(4, 2, num_fractions=8)(torch.randn(5, 4))
        >>> bool((values.diff(dim=-1) >= 0).all())
        True
    """

    head_class = MonotoneHead
    num_extra_outputs = 2
