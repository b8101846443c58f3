"""The stack of dense layers that encoders, heads and conditionings are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tm_torchrl.modules.layers.activations import Activation, leaky_relu, make_activation, outputs_before
from tm_torchrl.modules.layers.choices import maker
from tm_torchrl.modules.layers.initialization import HIDDEN_GAIN, orthogonal_
from tm_torchrl.modules.layers.noisy import NoisyLinear

Initialization = Callable[[nn.Module, float], None]
LinearLayer = Callable[[int, int], nn.Module] | str

LINEAR_LAYERS: dict[str, Callable[[int, int], nn.Module]] = {"linear": nn.Linear, "noisy": NoisyLinear}


def full_precision(kind: str) -> contextlib.AbstractContextManager[Any]:
    """No autocast on a kind of device; nothing where there is none, as torch.export wants it and as takes no time."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()


class Dense(nn.Sequential):
    """Layers over the last dimension; the others are folded into one on the way.

    ``nn.Linear`` gives a view where its input has more than two dimensions, and an activation in place on a view makes
    the backward pass copy the whole tensor several times: folded, an update of an IQN is a third faster (measured).

    Examples:
        >>> Dense(nn.Linear(4, 2))(torch.zeros(5, 3, 4)).shape
        torch.Size([5, 3, 2])
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., last]``."""
        hidden = inputs.reshape(-1, inputs.shape[-1])
        for layer in self:
            hidden = layer(hidden)
        return hidden.reshape(*inputs.shape[:-1], -1)

    def precise(self, inputs: Tensor) -> Tensor:
        """The same with the last layer in float32 even under autocast.

        Values of -4 have steps of 1/64 in bfloat16: more than the differences between actions, which decide.
        """
        hidden = inputs.reshape(-1, inputs.shape[-1])
        *before, last = self
        for layer in before:
            hidden = layer(hidden)
        with full_precision(hidden.device.type):
            hidden = last(as_float(hidden))
        return hidden.reshape(*inputs.shape[:-1], -1)


def dense(
    sizes: Sequence[int],
    *,
    output_gain: float | None = None,
    input_gain: float = HIDDEN_GAIN,
    activation: Activation = leaky_relu,
    layer_norm: bool = False,
    linear: LinearLayer = nn.Linear,
    output_linear: LinearLayer | None = None,
    initialization: Initialization | None = orthogonal_,
) -> Dense:
    """Linear layers of the given sizes, each followed by an activation.

    Args:
        sizes: inputs, hidden sizes, outputs.
        output_gain: given, the last layer is an output layer: no activation, and weights of this gain.
        input_gain: gain of the first layer's weights, unless it is the output layer.
        activation: makes one activation, or its name.
        layer_norm: normalise each hidden layer before its activation.
        linear: makes one layer from its sizes: ``nn.Linear`` or ``NoisyLinear``, or ``"linear"`` or ``"noisy"``.
        output_linear: the same for the last layer; ``None`` for one as the others.
        initialization: called with each layer and its gain; ``None`` leaves the layer's own.

    Examples:
        >>> dense([4, 8, 2], output_gain=1.0)
        Dense(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): LeakyReLU(negative_slope=0.01, inplace=True)
          (2): Linear(in_features=8, out_features=2, bias=True)
        )
    """
    layers: list[nn.Module] = []
    last = len(sizes) - 2
    for i in range(last + 1):
        is_output = output_gain is not None and i == last
        active = None if is_output else make_activation(activation)
        outputs = sizes[i + 1] if active is None else outputs_before(active, sizes[i + 1])
        layer = linear_layer(output_linear if i == last and output_linear is not None else linear)(sizes[i], outputs)
        if initialization is not None:
            gain = output_gain if is_output and output_gain is not None else input_gain if i == 0 else HIDDEN_GAIN
            initialization(layer, gain)
        layers.append(layer)
        if active is not None:
            layers += [nn.LayerNorm(outputs), active] if layer_norm else [active]
    return Dense(*layers)


def linear_layer(linear: LinearLayer) -> Callable[[int, int], nn.Module]:
    """What makes a layer from its sizes.

    >>> linear_layer("noisy")(4, 2)
    NoisyLinear(in_features=4, out_features=2, bias=True)
    """
    made: Callable[[int, int], nn.Module] = maker(linear, LINEAR_LAYERS, argument="linear")
    return made


def as_float(values: Tensor) -> Tensor:
    """Half precision as float32; anything else as it is."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
