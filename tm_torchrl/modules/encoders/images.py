"""What an image becomes before its first convolution.

Shapes: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scaled_images(pixels_BCHW: Tensor) -> Tensor:
    """uint8 pixels as floats in -1..1, with channels last in memory, which convolutions and pools are faster with.

    Args:
        pixels_BCHW: of any type.

    Examples:
        >>> scaled_images(torch.tensor([0, 128, 192, 255], dtype=torch.uint8).view(1, 1, 2, 2)).flatten().tolist()
        [-1.0, 0.0, 0.5, 0.9921875]
    """
    scaled = ((pixels_BCHW.float() - 128) / 128).contiguous(memory_format=torch.channels_last)
    B, C, H, W = scaled.shape
    # Of one channel torch takes both orders for the same, and goes on with channels first unless the strides say so.
    return scaled.as_strided((B, C, H, W), (C * H * W, 1, C * W, C))
