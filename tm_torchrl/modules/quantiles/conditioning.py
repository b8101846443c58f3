"""How embedded fractions meet a state's features.

Shapes: B batch, N fractions, E cosines, D features.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from tm_torchrl.modules.layers.activations import Activation, leaky_relu
from tm_torchrl.modules.layers.dense import Initialization, LinearLayer, dense
from tm_torchrl.modules.layers.initialization import HIDDEN_GAIN, orthogonal_

COSINE_GAIN = math.sqrt(2) * HIDDEN_GAIN  # a cosine has variance 1/2


class Hadamard(nn.Module):
    """Features times a projection of the embedded fractions (Dabney et al. 2018, "Implicit Quantile Networks").

    Args:
        num_cosines: E.
        num_features: D.
        num_layers: of the projection, 1 in the paper.
        hidden_size: of its layers but the last; ``None`` for D.
        activation: makes one, or its name.
        layer_norm: normalise each layer before its activation.
        linear: makes one layer.
        initialization: of the weights.

    Examples:
        >>> import torch
        >>> Hadamard(8, 16)(torch.ones(2, 1, 16), torch.ones(2, 3, 8)).shape
        torch.Size([2, 3, 16])
    """

    def __init__(
        self,
        num_cosines: int,
        num_features: int,
        *,
        num_layers: int = 1,
        hidden_size: int | None = None,
        activation: Activation = leaky_relu,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        self.projection = dense(
            [*_hidden(num_cosines, num_features, num_layers, hidden_size), num_features],
            input_gain=COSINE_GAIN,
            activation=activation,
            layer_norm=layer_norm,
            linear=linear,
            initialization=initialization,
        )

    def forward(self, features_B1D: Tensor, embedding_BNE: Tensor) -> Tensor:
        """``[B, N, D]``."""
        return features_B1D * self.projection(embedding_BNE)


class FiLM(nn.Module):
    """Features scaled and shifted by the embedded fractions: ``(1 + scale) * features + shift`` (Perez et al. 2018).

    Args:
        num_cosines: E.
        num_features: D.
        num_layers: of the projection.
        hidden_size: of its layers but the last; ``None`` for D.
        activation: makes one, or its name.
        layer_norm: normalise hidden layers before their activation.
        linear: makes one layer.
        initialization: of the weights.

    Examples:
        >>> import torch
        >>> FiLM(8, 16, num_layers=2)(torch.ones(2, 1, 16), torch.ones(2, 3, 8)).shape
        torch.Size([2, 3, 16])
    """

    def __init__(
        self,
        num_cosines: int,
        num_features: int,
        *,
        num_layers: int = 1,
        hidden_size: int | None = None,
        activation: Activation = leaky_relu,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        self.projection = dense(
            [*_hidden(num_cosines, num_features, num_layers, hidden_size), 2 * num_features],
            output_gain=1.0,
            input_gain=COSINE_GAIN,
            activation=activation,
            layer_norm=layer_norm,
            linear=linear,
            initialization=initialization,
        )

    def forward(self, features_B1D: Tensor, embedding_BNE: Tensor) -> Tensor:
        """``[B, N, D]``."""
        scale_BND, shift_BND = self.projection(embedding_BNE).chunk(2, -1)
        return features_B1D * (1 + scale_BND) + shift_BND


def _hidden(num_cosines: int, num_features: int, num_layers: int, hidden_size: int | None) -> list[int]:
    """The sizes of a projection but the last."""
    if num_layers < 1:
        raise ValueError(f"num_layers={num_layers}: at least one layer projects the cosines")
    if hidden_size is not None and num_layers < 2:
        raise ValueError(f"hidden_size={hidden_size}: one layer has no hidden ones; give num_layers of 2 or more")
    return [num_cosines] + [num_features if hidden_size is None else hidden_size] * (num_layers - 1)
