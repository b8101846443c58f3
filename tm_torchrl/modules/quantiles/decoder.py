"""Decoders: from features to one or several numbers for each action.

Shapes: A actions, S slots of an action block, K numbers for each action, D features. Outputs are ``[..., K, S, A]``;
K and S are missing where they were not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from tm_torchrl.modules.layers.arguments import chosen, maker, require_count
from tm_torchrl.modules.layers.dense import Dense, as_float, dense
from tm_torchrl.modules.layers.style import DEFAULT_STYLE, LayerStyle
from tm_torchrl.modules.layers.transformer import TokenStream
from tm_torchrl.modules.quantiles.slots import MIXERS, SlotMixer

Mixer = Callable[..., SlotMixer] | str
NoisyValue = bool | Literal["hidden"]
Stream = Callable[..., TokenStream] | str
STREAMS: dict[str, Callable[..., TokenStream] | None] = {"mlp": None, "transformer": TokenStream}


class Decoder(nn.Module):
    """Dense layers to ``[..., A]``.

    Args:
        num_features: D.
        num_actions: A.
        num_slots: S, the length of an action block; ``None`` for single actions.
        num_outputs: K numbers for each action (the quantiles of a fixed head); ``None`` for one, without a dimension.
        hidden_size: The size of the hidden layer; ``None`` for a single layer without a hidden one.
        style: Activation, normalisation, kind of layer and first weights.
        mixer: Mixes the slots before an output layer that they share: ``SlotMixer``, or one of its kinds by name;
            ``None`` for one output layer for all slots.
        advantage_stream: What is in front of the output layer: ``"mlp"`` for the hidden layer, ``"transformer"``, or a
            function that makes a ``TokenStream``.

    Examples:
        >>> import torch
        >>> Decoder(16, 3, num_outputs=8)(torch.zeros(5, 16)).shape
        torch.Size([5, 8, 3])
    """

    def __init__(
        self,
        num_features: int,
        num_actions: int,
        *,
        num_slots: int | None = None,
        num_outputs: int | None = None,
        hidden_size: int | None = 512,
        style: LayerStyle = DEFAULT_STYLE,
        mixer: Mixer | None = None,
        advantage_stream: Stream = "mlp",
    ) -> None:
        super().__init__()
        counts = {"num_actions": num_actions, "num_slots": num_slots, "num_outputs": num_outputs}
        for name, count in counts.items():
            if count is not None:
                require_count(count, argument=name)
        self.num_slots = num_slots
        self.output_shape = tuple(n for n in (num_outputs, num_slots, num_actions) if n is not None)
        self.is_mixed = mixer is not None
        sizes = [num_features] if hidden_size is None else [num_features, hidden_size]
        tokens = _token_stream(advantage_stream, num_features, style, argument="advantage_stream")
        if tokens is not None:
            sizes = [tokens.size]
        before = [] if tokens is None else [tokens]
        if mixer is None:
            sizes.append(math.prod(self.output_shape))
            self.advantage = Dense(*before, *dense(sizes, output_gain=1.0, style=style))
            return
        mixed = _make_mixer(mixer, num_slots)(sizes[-1], num_slots, style=style)
        output = dense([mixed.size, (num_outputs or 1) * num_actions], output_gain=1.0, style=style)
        self.advantage = Dense(*before, *dense(sizes, style=style), mixed, *output)

    def forward(self, features: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., K, S, A]``."""
        return self._shaped_advantage(self.advantage.precise(features))

    def _shaped_advantage(self, outputs: Tensor) -> Tensor:
        """The last dimension split into K, S, A; after a mixer its order is S, K, A."""
        if len(self.output_shape) == 1:
            return outputs
        if self.is_mixed and len(self.output_shape) == 3:
            num_outputs, num_slots, num_actions = self.output_shape
            return torch.unflatten(outputs, -1, (num_slots, num_outputs, num_actions)).transpose(-3, -2)
        return torch.unflatten(outputs, -1, self.output_shape)


class DuelingDecoder(Decoder):
    """Value plus centred advantages: ``V + A - mean of A over actions`` (Wang et al. 2016).

    There is one value for each of the K outputs. The slots of a block share it unless ``value_per_slot``.

    Args:
        num_features: D.
        num_actions: A.
        num_slots: S, the length of an action block; ``None`` for single actions.
        num_outputs: K numbers for each action (the quantiles of a fixed head); ``None`` for one, without a dimension.
        hidden_size: The size of the hidden layer in each of the two streams; ``None`` for single layers.
        style: Activation, normalisation, kind of layer and first weights.
        mixer: Mixes the slots of the advantages: ``SlotMixer``, or one of its kinds by name; ``None`` for none.
        noisy_value: Whether the value is noisy where the advantages are: False, True, or ``"hidden"`` for all but its
            last layer.
        value_per_slot: Whether each slot of a block has its own value.
        advantage_stream: What is in front of the advantages' output layer: ``"mlp"``, ``"transformer"``, or a function
            that makes a ``TokenStream``.
        value_stream: The same for the value.

    Examples:
        >>> import torch
        >>> decoder = DuelingDecoder(16, 3)
        >>> features = torch.randn(5, 16)
        >>> torch.allclose(decoder(features).mean(-1, keepdim=True), decoder.value(features), atol=1e-5)
        True
    """

    def __init__(
        self,
        num_features: int,
        num_actions: int,
        *,
        num_slots: int | None = None,
        num_outputs: int | None = None,
        hidden_size: int | None = 512,
        style: LayerStyle = DEFAULT_STYLE,
        mixer: Mixer | None = None,
        noisy_value: NoisyValue = False,
        value_per_slot: bool = False,
        advantage_stream: Stream = "mlp",
        value_stream: Stream = "mlp",
    ) -> None:
        super().__init__(
            num_features,
            num_actions,
            num_slots=num_slots,
            num_outputs=num_outputs,
            hidden_size=hidden_size,
            style=style,
            mixer=mixer,
            advantage_stream=advantage_stream,
        )
        if value_per_slot and num_slots is None:
            raise ValueError(
                "value_per_slot=True, num_slots=None: single actions have no slots; give num_slots "
                "(env.action_block=5), or leave it out"
            )
        if noisy_value not in (False, True, "hidden"):
            raise ValueError(f"noisy_value={noisy_value!r}: must be True, False or 'hidden'")
        if noisy_value and not style.is_noisy:
            raise ValueError(f"noisy_value={noisy_value!r}: no layer is noisy; leave it out, or give linear='noisy'")
        num_values = None if num_slots is None else num_slots if value_per_slot else 1
        self.value_shape = (*(n for n in (num_outputs, num_values) if n is not None), 1)
        num_numbers = math.prod(self.value_shape)
        self.value = value_layers(
            num_features,
            num_numbers,
            hidden_size=hidden_size,
            plain_output=noisy_value == "hidden",
            style=style.plain if style.is_noisy and not noisy_value else style,
            stream=value_stream,
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., K, S, A]``."""
        # Advantages are small, so bfloat16 keeps their differences.
        advantage = self._shaped_advantage(as_float(self.advantage(features)))
        value = torch.unflatten(self.value.precise(features), -1, self.value_shape)
        return value + (advantage - advantage.mean(-1, keepdim=True))


def value_layers(
    num_features: int,
    num_outputs: int,
    *,
    hidden_size: int | None,
    plain_output: bool = False,
    style: LayerStyle,
    stream: Stream,
) -> Dense:
    """The layers from features to the value.

    Args:
        num_features: D.
        num_outputs: The number of values.
        hidden_size: The size of the hidden layer of ``"mlp"``; ``None`` for none.
        plain_output: Whether the last layer is ``nn.Linear`` where the others are noisy.
        style: Activation, normalisation, kind of layer and first weights.
        stream: ``"mlp"``, ``"transformer"``, or a function that makes a ``TokenStream``.
    """
    tokens = _token_stream(stream, num_features, style, argument="value_stream")
    hidden = [] if hidden_size is None else [hidden_size]
    sizes = [num_features, *hidden] if tokens is None else [tokens.size]
    layers = dense([*sizes, num_outputs], output_gain=1.0, plain_output=plain_output, style=style)
    return layers if tokens is None else Dense(tokens, *layers)


def _token_stream(stream: Stream, num_features: int, style: LayerStyle, *, argument: str) -> TokenStream | None:
    """The transformer of a stream; ``None`` for dense layers."""
    make = maker(stream, STREAMS, argument=argument) if stream != "mlp" else None  # type: ignore[arg-type]
    if make is None:
        return None
    try:
        made: TokenStream = make(num_features, style=style.plain)
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from error
    return made


def _make_mixer(mixer: Mixer, num_slots: int | None) -> Callable[..., SlotMixer]:
    """The function that makes the mixer; an error if there are no slots to mix."""
    if isinstance(mixer, str):
        chosen(mixer, MIXERS, argument="mixer")
    if num_slots is None or num_slots < 2:
        named = repr(mixer) if isinstance(mixer, str) else "SlotMixer"
        raise ValueError(
            f"mixer={named}, num_slots={num_slots}: mixing needs blocks of 2 or more slots; give num_slots "
            "(env.action_block=5), or mixer=None (objective.network.mixer=null)"
        )
    return partial(SlotMixer, kind=mixer) if isinstance(mixer, str) else mixer
