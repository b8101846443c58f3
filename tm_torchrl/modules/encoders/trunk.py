"""Residual dense layers between an encoder and the head.

Shapes: B batch, D features.
"""

from __future__ import annotations

from torch import Tensor, nn

from tm_torchrl.modules.layers.activations import Activation, leaky_relu
from tm_torchrl.modules.layers.dense import Initialization, LinearLayer, dense
from tm_torchrl.modules.layers.initialization import orthogonal_


class ResidualTrunk(nn.Module):
    """Blocks over the features of image and floats together: layer norm, dense, activation, dense, plus what came in.

    Args:
        num_features: D.
        num_blocks: one behind the other.
        hidden_size: inside each block.
        activation: makes one, or its name.
        linear: makes one layer.
        initialization: of the weights.

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
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        for name, value in (("num_blocks", num_blocks), ("hidden_size", hidden_size)):
            if value < 1:
                raise ValueError(f"{name}={value}: at least 1 is needed; for no trunk leave it out")
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(num_features),
                *dense(
                    [num_features, hidden_size, num_features],
                    output_gain=1.0,
                    activation=activation,
                    linear=linear,
                    initialization=initialization,
                ),
            )
            for _ in range(num_blocks)
        )

    def forward(self, features_BD: Tensor) -> Tensor:
        """``[B, D]``."""
        for block in self.blocks:
            features_BD = features_BD + block(features_BD)
        return features_BD
