"""From features to one or several numbers for each action.

Shapes: A actions, S slots of an action block, K numbers for each action, D features. Outputs are ``[..., K, S, A]``,
without the K and the S that were not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from tm_torchrl.modules.layers.activations import Activation, leaky_relu
from tm_torchrl.modules.layers.choices import chosen
from tm_torchrl.modules.layers.dense import Dense, Initialization, LinearLayer, as_float, dense, linear_layer
from tm_torchrl.modules.layers.initialization import orthogonal_
from tm_torchrl.modules.quantiles.slots import MIXERS, SlotMixer

Mixer = Callable[..., SlotMixer] | str


class Decoder(nn.Module):
    """Dense layers to ``[..., A]``.

    Args:
        num_features: D.
        num_actions: A.
        num_slots: S, the length of an action block; ``None`` for single actions.
        num_outputs: K numbers for each action (quantiles of a fixed head); ``None`` for one without a dimension.
        hidden_size: of the hidden layers.
        num_hidden_layers: 1, or 0 for a single layer.
        activation: makes one, or its name.
        layer_norm: normalise hidden layers before their activation.
        linear: makes one layer, or its name: ``"linear"`` or ``"noisy"``.
        initialization: of the weights.
        mixer: of the slots, before an output layer that they share: ``SlotMixer`` or one of its kinds by name; ``None``
            for one output layer that gives all slots at once.

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
        hidden_size: int = 512,
        num_hidden_layers: int = 1,
        activation: Activation = leaky_relu,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        initialization: Initialization | None = orthogonal_,
        mixer: Mixer | None = None,
    ) -> None:
        super().__init__()
        counts = {"num_actions": num_actions, "num_slots": num_slots, "num_outputs": num_outputs}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"{name}={count}: at least 1 is needed")
        self.num_slots = num_slots
        self.output_shape = tuple(n for n in (num_outputs, num_slots, num_actions) if n is not None)
        self.is_mixed = mixer is not None
        sizes = [num_features] + [hidden_size] * num_hidden_layers
        layers = partial(
            dense, activation=activation, layer_norm=layer_norm, linear=linear, initialization=initialization
        )
        if mixer is None:
            self.advantage = layers([*sizes, math.prod(self.output_shape)], output_gain=1.0)
            return
        mixed = _make_mixer(mixer, num_slots)(
            sizes[-1],
            num_slots,
            activation=activation,
            layer_norm=layer_norm,
            linear=linear,
            initialization=initialization,
        )
        output = layers([mixed.size, (num_outputs or 1) * num_actions], output_gain=1.0)
        self.advantage = Dense(*layers(sizes), mixed, *output)

    def forward(self, features: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., K, S, A]``."""
        return self._shaped_advantage(self.advantage.precise(features))

    def _shaped_advantage(self, outputs: Tensor) -> Tensor:
        """The last dimension as K, S, A; behind a mixer it holds S, K, A."""
        if self.is_mixed and len(self.output_shape) == 3:
            num_outputs, num_slots, num_actions = self.output_shape
            return torch.unflatten(outputs, -1, (num_slots, num_outputs, num_actions)).transpose(-3, -2)
        return torch.unflatten(outputs, -1, self.output_shape)


class DuelingDecoder(Decoder):
    """Value plus centred advantages: ``V + A - mean of A over actions`` (Wang et al. 2016).

    One value for each of K outputs, shared by the slots of a block, or one for each slot too.

    Args:
        num_features: D.
        num_actions: A.
        num_slots: S, the length of an action block; ``None`` for single actions.
        num_outputs: K numbers for each action (quantiles of a fixed head); ``None`` for one without a dimension.
        hidden_size: of the hidden layers, in each of the two streams.
        num_hidden_layers: 1, or 0 for a single layer.
        activation: makes one, or its name.
        layer_norm: normalise hidden layers before their activation.
        linear: makes one layer, or its name: ``"linear"`` or ``"noisy"``.
        plain_value_output: the value's last layer is ``nn.Linear`` where the others are noisy.
        initialization: of the weights.
        mixer: of the advantages' slots: ``SlotMixer`` or one of its kinds by name; ``None`` for none.
        value_per_slot: a value for each slot of a block instead of one that they share.

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
        hidden_size: int = 512,
        num_hidden_layers: int = 1,
        activation: Activation = leaky_relu,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        plain_value_output: bool = False,
        initialization: Initialization | None = orthogonal_,
        mixer: Mixer | None = None,
        value_per_slot: bool = False,
    ) -> None:
        super().__init__(
            num_features,
            num_actions,
            num_slots=num_slots,
            num_outputs=num_outputs,
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            activation=activation,
            layer_norm=layer_norm,
            linear=linear,
            initialization=initialization,
            mixer=mixer,
        )
        if value_per_slot and num_slots is None:
            raise ValueError(
                "value_per_slot=True, num_slots=None: single actions have no slots; give num_slots "
                "(env.action_block=5), or leave it out"
            )
        if plain_value_output and linear_layer(linear) is nn.Linear:
            raise ValueError("plain_value_output=True: all layers are plain; leave it out, or give linear='noisy'")
        num_values = None if num_slots is None else num_slots if value_per_slot else 1
        self.value_shape = (*(n for n in (num_outputs, num_values) if n is not None), 1)
        self.value = dense(
            [num_features] + [hidden_size] * num_hidden_layers + [math.prod(self.value_shape)],
            output_gain=1.0,
            activation=activation,
            layer_norm=layer_norm,
            linear=linear,
            output_linear=nn.Linear if plain_value_output else None,
            initialization=initialization,
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., K, S, A]``."""
        advantage = self._shaped_advantage(as_float(self.advantage(features)))  # small: bfloat16 keeps their gaps
        value = torch.unflatten(self.value.precise(features), -1, self.value_shape)
        return value + (advantage - advantage.mean(-1, keepdim=True))


def _make_mixer(mixer: Mixer, num_slots: int | None) -> Callable[..., SlotMixer]:
    """The mixer that was asked for, for the slots that there are."""
    if isinstance(mixer, str):
        chosen(mixer, MIXERS, argument="mixer")
    if num_slots is None or num_slots < 2:
        named = repr(mixer) if isinstance(mixer, str) else "SlotMixer"
        raise ValueError(
            f"mixer={named}, num_slots={num_slots}: it mixes the slots of a block, so 2 or more are needed; give "
            "num_slots (env.action_block=5), or mixer=None (objective.network.mixer=null)"
        )
    return partial(SlotMixer, kind=mixer) if isinstance(mixer, str) else mixer
