"""Quantile networks for floats, images or both: IQN, QR-DQN, FQF and non-crossing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from tm_torchrl.modules.cores.core import Core
from tm_torchrl.modules.encoders.floats import Normalize
from tm_torchrl.modules.layers.activations import Activation, leaky_relu
from tm_torchrl.modules.layers.style import Initialization, LayerStyle, LinearLayer
from tm_torchrl.modules.network_options import Actions, FusionMaker, ModuleMaker, Observations
from tm_torchrl.modules.quantiles.conditioning import FiLM, Hadamard
from tm_torchrl.modules.quantiles.decoder import Decoder, Mixer, NoisyValue, Stream
from tm_torchrl.modules.quantiles.embedding import CosineEmbedding
from tm_torchrl.modules.quantiles.fractions import FractionProposal, FractionSource, StratifiedFractions
from tm_torchrl.modules.quantiles.heads import FixedHead, ImplicitHead, MonotoneHead
from tm_torchrl.modules.quantiles.network import QuantileNetwork

Conditioning = Callable[..., Hadamard | FiLM]
CoreMaker = Callable[..., Core]
Source = FractionSource | FractionProposal | Callable[[int], FractionProposal]


class _BuiltNetwork(QuantileNetwork):
    """A network made from options; it can act by itself."""

    def __init__(
        self,
        observations: Observations,
        actions: Actions,
        style: LayerStyle,
        *,
        make_head: Callable[[int, Decoder], nn.Module],
        num_fractions: int,
        num_outputs: int | None = None,
        source: Source | None = None,
        frozen: Sequence[str] = (),
    ) -> None:
        # The order in which parts are made is the order in which their weights are drawn: it must not change.
        pixels = observations.make_image_encoder(style)
        fused = observations.make_fusion(pixels, style)
        num_inputs = observations.count_features(pixels) if fused is None else fused.num_features  # of trunk and core
        core = observations.make_core(num_inputs)
        num_features = num_inputs if core is None else core.num_features
        if source is not None and not isinstance(source, (FractionSource, FractionProposal)):
            source = source(num_features)
        encoder = observations.make_encoder(pixels, style) if fused is None else fused
        head = make_head(num_features, actions.make_decoder(num_features, style, num_outputs=num_outputs))
        super().__init__(
            encoder,
            head,
            source=source,
            num_fractions=num_fractions,
            num_slots=actions.num_slots,
            trunk=observations.make_trunk(num_inputs, style),
            core=core,
        )
        self.freeze(frozen)

    @torch.no_grad()
    def act(self, *observations: Tensor) -> Tensor:
        """The actions with the highest mean over fractions, for images ``[*B, C, H, W]`` and floats ``[*B, F]``.

        A network with memory takes its state ``[*B, S]`` last.
        """
        shape, flat = self.flattened(observations)
        action = self.quantiles(*flat).mean().argmax(-1)
        return action.reshape((*shape, *action.shape[1:]))


class MLPIQNetwork(_BuiltNetwork):
    """An implicit quantile network over floats, images or both (Dabney et al. 2018).

    Args:
        num_inputs: F, the number of floats; ``None`` for images alone.
        num_actions: A.
        hidden_sizes: The layers of the encoder of floats; without images the last one is D, the number of features.
        head_size: The size of the head's hidden layer; the dueling head has two streams of this size.
        num_cosines: The number of cosines that embed a fraction.
        first_frequency: The first frequency of the cosines: 1 (Linesight) or 0 (the paper).
        num_fractions: The number of fractions drawn when none are given, so also for acting: the paper's K.
        num_slots: S, the length of an action block; ``None`` for single actions.
        mixer: Mixes the slots of a block: ``SlotMixer``, ``"embedding"``, ``"mlp"``, ``"conv"``, ``"gru"`` or
            ``"attention"``; ``None`` for none.
        value_per_slot: Whether each slot of a block has its own value instead of a shared one.
        advantage_stream: What is in front of the advantages' output layer: ``"mlp"`` for a hidden layer,
            ``"transformer"`` for tokens cut from the features, or a function that makes a ``TokenStream``.
        value_stream: The same for the value.
        frozen: Names of parts that keep their weights: ``"vision"``, ``"floats"``, ``"fusion"``, ...; see ``freeze``.
        dueling: Whether the head has value and advantage streams.
        conditioning: ``Hadamard`` or ``FiLM``: how fractions change the features.
        source: Draws fractions, or a function that makes the source from D; ``None`` for ``StratifiedFractions``.
        image: Makes the encoder of images, which are the first observation: ``PixelEncoder`` or ``ImpalaEncoder``;
            ``None`` for floats alone.
        image_shape: ``(channels, height, width)``; only ``PixelEncoder`` accepts images that are not square.
        trunk: Makes the module between encoder and head from D, such as ``ResidualTrunk``; ``None`` for none.
        core: ``"gru"``, ``"lstm"``, ``"mamba"``, or a function that makes a core from D: the memory between trunk and
            head; ``None`` for none.
        fusion: ``"post_concat"``, ``"unified"``, or a function that makes one: images and floats in one body; ``None``
            for encoders side by side.
        normalize: The first layer over the floats; ``None`` for none.
        layer_norm: Whether hidden layers are normalised before their activation.
        linear: The kind of the head's layers: ``"linear"``, ``"noisy"``, or a function that makes a layer.
        noisy_value: Whether the value is noisy where the advantages are: False, True, or ``"hidden"`` for all but its
            last layer. Noise that moves the values of all actions alike explores nothing.
        activation: ``"leaky_relu"``, ``"relu"``, ``"gelu"``, ``"crelu"``, or a function that makes an activation.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

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
        advantage_stream: Stream = "mlp",
        value_stream: Stream = "mlp",
        frozen: Sequence[str] = (),
        dueling: bool = True,
        conditioning: Conditioning = Hadamard,
        source: Source | None = None,
        image: ModuleMaker | None = None,
        image_shape: Sequence[int] | None = None,
        trunk: ModuleMaker | None = None,
        core: CoreMaker | str | None = None,
        fusion: FusionMaker | str | None = None,
        normalize: Normalize | None = None,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        noisy_value: NoisyValue = False,
        activation: Activation = leaky_relu,
        initialization: Initialization | None = None,
    ) -> None:
        style = LayerStyle(activation, layer_norm, linear, initialization)
        super().__init__(
            Observations(num_inputs, hidden_sizes, normalize, image, image_shape, trunk, core, fusion),
            Actions(
                num_actions,
                head_size,
                num_slots,
                mixer,
                dueling,
                noisy_value,
                value_per_slot,
                advantage_stream,
                value_stream,
            ),
            style,
            make_head=_implicit_head(conditioning, num_cosines, first_frequency, style),
            num_fractions=num_fractions,
            source=StratifiedFractions() if source is None else source,
            frozen=frozen,
        )


class MLPFQFNetwork(_BuiltNetwork):
    """An implicit network that proposes its own fractions for each state (Yang et al. 2019).

    The arguments are those of ``MLPIQNetwork``, without ``first_frequency`` and ``source``. ``num_fractions`` is N, the
    number of fractions proposed for each state, 32 in the paper.

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
        advantage_stream: Stream = "mlp",
        value_stream: Stream = "mlp",
        frozen: Sequence[str] = (),
        dueling: bool = True,
        conditioning: Conditioning = Hadamard,
        image: ModuleMaker | None = None,
        image_shape: Sequence[int] | None = None,
        trunk: ModuleMaker | None = None,
        core: CoreMaker | str | None = None,
        fusion: FusionMaker | str | None = None,
        normalize: Normalize | None = None,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        noisy_value: NoisyValue = False,
        activation: Activation = leaky_relu,
        initialization: Initialization | None = None,
    ) -> None:
        style = LayerStyle(activation, layer_norm, linear, initialization)
        super().__init__(
            Observations(num_inputs, hidden_sizes, normalize, image, image_shape, trunk, core, fusion),
            Actions(
                num_actions,
                head_size,
                num_slots,
                mixer,
                dueling,
                noisy_value,
                value_per_slot,
                advantage_stream,
                value_stream,
            ),
            style,
            make_head=_implicit_head(conditioning, num_cosines, 1, style),
            num_fractions=num_fractions,
            source=partial(FractionProposal, num_fractions=num_fractions),
            frozen=frozen,
        )


class MLPQRNetwork(_BuiltNetwork):
    """A QR-DQN over floats, images or both: one output for each of N fixed fractions (Dabney et al. 2018).

    The arguments are those of ``MLPIQNetwork``, without those of sampled fractions. ``num_fractions`` is N, 200 in the
    paper. ``head_size=None`` makes the head a single layer, as in the paper.

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
        advantage_stream: Stream = "mlp",
        value_stream: Stream = "mlp",
        frozen: Sequence[str] = (),
        dueling: bool = True,
        image: ModuleMaker | None = None,
        image_shape: Sequence[int] | None = None,
        trunk: ModuleMaker | None = None,
        core: CoreMaker | str | None = None,
        fusion: FusionMaker | str | None = None,
        normalize: Normalize | None = None,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        noisy_value: NoisyValue = False,
        activation: Activation = leaky_relu,
        initialization: Initialization | None = None,
    ) -> None:
        super().__init__(
            Observations(num_inputs, hidden_sizes, normalize, image, image_shape, trunk, core, fusion),
            Actions(
                num_actions,
                head_size,
                num_slots,
                mixer,
                dueling,
                noisy_value,
                value_per_slot,
                advantage_stream,
                value_stream,
            ),
            LayerStyle(activation, layer_norm, linear, initialization),
            make_head=lambda num_features, decoder: self.head_class(decoder),
            num_fractions=num_fractions,
            num_outputs=num_fractions + self.num_extra_outputs,
            frozen=frozen,
        )


class MLPNQNetwork(MLPQRNetwork):
    """Non-crossing quantiles over floats, images or both: a ``MonotoneHead``, with the arguments of ``MLPQRNetwork``.

    It is trained at its own ``num_fractions`` midpoints with ``QRDQNLoss``, or at sampled fractions with ``IQNLoss``.

    Examples:
        >>> values = MLPNQNetwork(4, 2, num_fractions=8)(torch.randn(5, 4))
        >>> bool((values.diff(dim=-1) >= 0).all())
        True
    """

    head_class = MonotoneHead
    num_extra_outputs = 2


def _implicit_head(
    conditioning: Conditioning, num_cosines: int, first_frequency: int, style: LayerStyle
) -> Callable[[int, Decoder], ImplicitHead]:
    def make(num_features: int, decoder: Decoder) -> ImplicitHead:
        embedding = CosineEmbedding(num_cosines, first_frequency=first_frequency)
        meet = conditioning(num_cosines, num_features, activation=style.activation, initialization=style.initialization)
        return ImplicitHead(embedding, meet, decoder)

    return make
