"""How embedded fractions meet a state's features.

Shapes: B batch, N fractions, E cosines, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from tm_torchrl.modules.initialization import HIDDEN_GAIN, orthogonal_
from tm_torchrl.modules.layers import Initialization, LinearLayer, dense, leaky_relu

COSINE_GAIN = math.sqrt(2) * HIDDEN_GAIN  # a cosine has variance 1/2


class Hadamard(nn.Module):
    """Features times a projection of the embedded fractions (Dabney et al. 2018, "Implicit Quantile Networks").

    Args:
        num_cosines: E.
        num_features: D.
        num_layers: of the projection, 1 in the paper.
        activation: makes one activation.
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
        activation: Callable[[], nn.Module] = leaky_relu,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        self.projection = dense(
            [num_cosines] + [num_features] * num_layers,
            hidden_gain=COSINE_GAIN,
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
        activation: makes one activation.
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
        activation: Callable[[], nn.Module] = leaky_relu,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        self.projection = dense(
            [num_cosines] + [num_features] * (num_layers - 1) + [2 * num_features],
            output_gain=1.0,
            hidden_gain=COSINE_GAIN,
            activation=activation,
            layer_norm=layer_norm,
            linear=linear,
            initialization=initialization,
        )

    def forward(self, features_B1D: Tensor, embedding_BNE: Tensor) -> Tensor:
        """``[B, N, D]``."""
        scale_BND, shift_BND = self.projection(embedding_BNE).chunk(2, -1)
        return features_B1D * (1 + scale_BND) + shift_BND
