"""The stack of dense layers that encoders, heads and conditionings are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tm_torchrl.modules.initialization import HIDDEN_GAIN, LEAKY_SLOPE, orthogonal_

Initialization = Callable[[nn.Module, float], None]
LinearLayer = Callable[[int, int], nn.Module]


def leaky_relu() -> nn.Module:
    """The default activation; in place, since what it overwrites is used by nothing else."""
    return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)


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
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = last(as_float(hidden))
        return hidden.reshape(*inputs.shape[:-1], -1)


def dense(
    sizes: Sequence[int],
    *,
    output_gain: float | None = None,
    hidden_gain: float = HIDDEN_GAIN,
    activation: Callable[[], nn.Module] = leaky_relu,
    layer_norm: bool = False,
    linear: LinearLayer = nn.Linear,
    initialization: Initialization | None = orthogonal_,
) -> Dense:
    """Linear layers of the given sizes, each followed by an activation.

    Args:
        sizes: inputs, hidden sizes, outputs.
        output_gain: given, the last layer is an output layer: no activation, and weights of this gain.
        hidden_gain: gain of the other layers' weights.
        activation: makes one activation.
        layer_norm: normalise each hidden layer before its activation.
        linear: makes one layer from its sizes: ``nn.Linear`` or ``NoisyLinear``.
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
    for i in range(len(sizes) - 1):
        is_output = output_gain is not None and i == len(sizes) - 2
        layer = linear(sizes[i], sizes[i + 1])
        if initialization is not None:
            initialization(layer, output_gain if is_output and output_gain is not None else hidden_gain)
        layers.append(layer)
        if not is_output:
            layers += [nn.LayerNorm(sizes[i + 1])] if layer_norm else []
            layers.append(activation())
    return Dense(*layers)


def as_float(values: Tensor) -> Tensor:
    """Half precision as float32; anything else as it is."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
