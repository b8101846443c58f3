"""What all encoders of images share: leading dimensions, the scaling of pixels, and features as tokens.

Shapes: B batch, C channels, H and W pixels, D features, T tokens of M numbers each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImageEncoder(nn.Module):
    """Features ``[*B, D]`` from pixels ``[*B, C, H, W]``; subclasses define ``features`` for a batch of images.

    What the encoder made of images earlier is taken in their place and returned as it is: a replay may store the
    embeddings of a frozen encoder. They are told from images by their dimensions.

    Attributes:
        num_features: D.
        num_tokens: T, of a convolutional encoder the number of places of its last map.
    """

    num_dims = 3
    num_features: int
    num_tokens: int = 1

    @property
    def token_size(self) -> int:
        """M."""
        return self.num_features // self.num_tokens

    def features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from images in -1..1."""
        raise TypeError(f"{type(self).__name__} must define features(images_BCHW)")

    def token_features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, T, M]`` from images in -1..1: by default each place of the last map, which ``features`` flattens."""
        return torch.unflatten(self.features(images_BCHW), -1, (-1, self.num_tokens)).transpose(1, 2)

    def tokens(self, pixels_BCHW: Tensor) -> Tensor:
        """``[B, T, M]`` from uint8 pixels ``[B, C, H, W]``, or from such tokens, for a fusion that reads tokens."""
        if pixels_BCHW.ndim == 3:
            return pixels_BCHW
        return self.token_features(scaled_images(pixels_BCHW))

    def forward(self, pixels: Tensor) -> Tensor:
        """``[*B, D]`` from uint8 pixels ``[*B, C, H, W]``, or ``[B, D]`` from such features."""
        if pixels.ndim == 2:
            return pixels
        if pixels.ndim == 4:
            return self.features(scaled_images(pixels))
        features_BD = self.features(scaled_images(pixels.reshape(-1, *pixels.shape[-3:])))
        return features_BD.reshape(*pixels.shape[:-3], features_BD.shape[-1])


def scaled_images(pixels_BCHW: Tensor) -> Tensor:
    """Pixels 0..255 as floats in -1..1, with channels last in memory, which is faster for convolutions and pooling.

    Args:
        pixels_BCHW: Pixels of any number type.

    Examples:
        >>> import torch
        >>> scaled_images(torch.tensor([0, 128, 192, 255], dtype=torch.uint8).view(1, 1, 2, 2)).flatten().tolist()
        [-1.0, 0.0, 0.5, 0.9921875]
    """
    scaled = (pixels_BCHW.float() - 128) / 128
    # Through a matrix, because torch would keep channels first where there is one channel: both orders are the same to
    # it unless the strides say otherwise. ``to(memory_format=...)`` and ``as_strided`` do not work inside vmap.
    B, C, H, W = scaled.shape
    return scaled.permute(0, 2, 3, 1).reshape(B, H * W * C).view(B, H, W, C).permute(0, 3, 1, 2)
