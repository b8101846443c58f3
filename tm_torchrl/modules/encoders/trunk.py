"""Residual dense layers between an encoder and the head.

Shapes: B batch, D features.
"""

from __future__ import annotations

from torch import Tensor, nn

from tm_torchrl.modules.layers.activations import Activation, leaky_relu
from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.layers.dense import dense
from tm_torchrl.modules.layers.style import Initialization, LayerStyle, LinearLayer


class ResidualTrunk(nn.Module):
    """Blocks over the features of all observations: layer norm, dense, activation, dense, plus the block's own input.

    Args:
        num_features: D.
        num_blocks: The number of blocks.
        hidden_size: The size of the layer inside each block.
        activation: The name of an activation, or a function that makes one.
        linear: ``"linear"``, ``"noisy"``, or a function that makes a layer from its sizes.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

    Examples:
        >>> import torch
        >>> ResidualTrunk(16, num_blocks=2)(torch.zeros(5, 16)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        num_features: int,
        *,
        num_blocks: int = 1,
        hidden_size: int = 256,
        activation: Activation = leaky_relu,
        linear: LinearLayer = nn.Linear,
        initialization: Initialization | None = "orthogonal",
    ) -> None:
        super().__init__()
        for name, value in (("num_blocks", num_blocks), ("hidden_size", hidden_size)):
            require_count(value, argument=name)
        style = LayerStyle(activation=activation, linear=linear, initialization=initialization)
        sizes = [num_features, hidden_size, num_features]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(num_features), *dense(sizes, output_gain=1.0, style=style))
            for _ in range(num_blocks)
        )

    def forward(self, features_BD: Tensor) -> Tensor:
        """``[B, D]``."""
        for block in self.blocks:
            features_BD = features_BD + block(features_BD)
        return features_BD
