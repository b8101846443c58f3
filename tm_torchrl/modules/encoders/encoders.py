"""From image and floats together to features.

Shapes: B batch, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PixelFloatEncoder(nn.Module):
    """Features of an image and of a vector, side by side.

    Args:
        pixels: The encoder of the first observation.
        floats: The encoder of the second observation.

    Examples:
        >>> from tm_torchrl.modules import FloatEncoder, PixelEncoder
        >>> encoder = PixelFloatEncoder(PixelEncoder(), FloatEncoder(264))
        >>> encoder(torch.zeros(2, 1, 64, 64, dtype=torch.uint8), torch.zeros(2, 264)).shape
        torch.Size([2, 768])
    """

    def __init__(self, pixels: nn.Module, floats: nn.Module) -> None:
        super().__init__()
        self.pixels = pixels
        self.floats = floats
        self.num_features = int(pixels.num_features) + int(floats.num_features)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor, floats: Tensor) -> Tensor:
        """``[B, D]``."""
        return torch.cat([self.pixels(pixels), self.floats(floats)], -1)
