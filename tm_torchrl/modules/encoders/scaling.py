"""Scaling of images before the first convolution.

Shapes: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scaled_images(pixels_BCHW: Tensor) -> Tensor:
    """Pixels 0..255 as floats in -1..1, with channels last in memory, which is faster for convolutions and pooling.

    Args:
        pixels_BCHW: Pixels of any number type.

    Examples:
        >>> scaled_images(torch.tensor([0, 128, 192, 255], dtype=torch.uint8).view(1, 1, 2, 2)).flatten().tolist()
        [-1.0, 0.0, 0.5, 0.9921875]
    """
    scaled = ((pixels_BCHW.float() - 128) / 128).contiguous(memory_format=torch.channels_last)
    B, C, H, W = scaled.shape
    # With one channel both orders are the same to torch, which keeps channels first unless the strides say otherwise.
    return scaled.as_strided((B, C, H, W), (C * H * W, 1, C * W, C))
