"""From features to one or several numbers for each action.

Shapes: A actions, S slots of an action block, K numbers for each action, D features. Outputs are ``[..., K, S, A]``,
without the K and the S that were not asked for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tm_torchrl.modules.activations import Activation, leaky_relu
from tm_torchrl.modules.initialization import orthogonal_
from tm_torchrl.modules.layers import Initialization, LinearLayer, as_float, dense, linear_layer


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
    ) -> None:
        super().__init__()
        counts = {"num_actions": num_actions, "num_slots": num_slots, "num_outputs": num_outputs}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"{name}={count}: at least 1 is needed")
        self.output_shape = tuple(n for n in (num_outputs, num_slots, num_actions) if n is not None)
        outputs = 1
        for n in self.output_shape:
            outputs *= n
        self.advantage = dense(
            [num_features] + [hidden_size] * num_hidden_layers + [outputs],
            output_gain=1.0,
            activation=activation,
            layer_norm=layer_norm,
            linear=linear,
            initialization=initialization,
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., K, S, A]``."""
        return _shaped(self.advantage.precise(features), self.output_shape)


class DuelingDecoder(Decoder):
    """Value plus centred advantages: ``V + A - mean of A over actions`` (Wang et al. 2016).

    One value for each of K outputs, shared by the slots of a block.

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
        )
        if plain_value_output and linear_layer(linear) is nn.Linear:
            raise ValueError("plain_value_output=True: all layers are plain; leave it out, or give linear='noisy'")
        num_values = 1 if num_outputs is None else num_outputs
        self.value_shape = (*((num_outputs,) if num_outputs else ()), *((1,) if num_slots else ()), 1)
        self.value = dense(
            [num_features] + [hidden_size] * num_hidden_layers + [num_values],
            output_gain=1.0,
            activation=activation,
            layer_norm=layer_norm,
            linear=linear,
            output_linear=nn.Linear if plain_value_output else None,
            initialization=initialization,
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., K, S, A]``."""
        advantage = _shaped(as_float(self.advantage(features)), self.output_shape)  # small: bfloat16 keeps their gaps
        value = _shaped(self.value.precise(features), self.value_shape)
        return value + (advantage - advantage.mean(-1, keepdim=True))


def _shaped(outputs: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The last dimension as several."""
    return torch.unflatten(outputs, -1, shape)
