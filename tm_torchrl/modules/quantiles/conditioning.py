"""Conditionings: how embedded fractions change a state's features.

Shapes: B batch, N fractions, E cosines, D features.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from tm_torchrl.modules.layers.activations import Activation, leaky_relu
from tm_torchrl.modules.layers.dense import dense
from tm_torchrl.modules.layers.initialization import HIDDEN_GAIN
from tm_torchrl.modules.layers.style import Initialization, LayerStyle

COSINE_GAIN = math.sqrt(2) * HIDDEN_GAIN  # a cosine has variance 1/2


class _Conditioning(nn.Module):
    num_projections = 1  # outputs of the projection for each feature
    output_gain: float | None = None  # gain of the last layer, which then has no activation

    def __init__(
        self,
        num_cosines: int,
        num_features: int,
        *,
        num_layers: int = 1,
        hidden_size: int | None = None,
        activation: Activation = leaky_relu,
        layer_norm: bool = False,
        initialization: Initialization | None = "orthogonal",
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers}: must be at least 1")
        if hidden_size is not None and num_layers < 2:
            raise ValueError(f"hidden_size={hidden_size}: a single layer has none; give num_layers=2 or more")
        hidden = [num_features if hidden_size is None else hidden_size] * (num_layers - 1)
        self.projection = dense(
            [num_cosines, *hidden, self.num_projections * num_features],
            output_gain=self.output_gain,
            input_gain=COSINE_GAIN,
            style=LayerStyle(activation, layer_norm, initialization=initialization),
        )


class Hadamard(_Conditioning):
    """Features times a projection of the embedded fractions (Dabney et al. 2018, "Implicit Quantile Networks").

    Args:
        num_cosines: E.
        num_features: D.
        num_layers: The number of layers of the projection; 1 in the paper.
        hidden_size: The size of all its layers but the last; ``None`` for D.
        activation: The name of an activation, or a function that makes one.
        layer_norm: Whether layers are normalised before their activation.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

    Examples:
        >>> import torch
        >>> Hadamard(8, 16)(torch.ones(2, 1, 16), torch.ones(2, 3, 8)).shape
        torch.Size([2, 3, 16])
    """

    def forward(self, features_B1D: Tensor, embedding_BNE: Tensor) -> Tensor:
        """``[B, N, D]``."""
        return features_B1D * self.projection(embedding_BNE)


class FiLM(_Conditioning):
    """Features scaled and shifted by the embedded fractions: ``(1 + scale) * features + shift`` (Perez et al. 2018).

    The arguments are those of ``Hadamard``. The last layer of the projection has neither activation nor normalisation.

    Examples:
        >>> import torch
        >>> FiLM(8, 16, num_layers=2)(torch.ones(2, 1, 16), torch.ones(2, 3, 8)).shape
        torch.Size([2, 3, 16])
    """

    num_projections = 2
    output_gain = 1.0

    def forward(self, features_B1D: Tensor, embedding_BNE: Tensor) -> Tensor:
        """``[B, N, D]``."""
        scale_BND, shift_BND = self.projection(embedding_BNE).chunk(2, -1)
        return features_B1D * (1 + scale_BND) + shift_BND
