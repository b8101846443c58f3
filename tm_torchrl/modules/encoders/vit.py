"""A vision transformer: patches of an image as tokens.

Shapes: B batch, C channels, H and W pixels, T patches, M the size of a token, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tm_torchrl.modules.encoders.images import ImageEncoder
from tm_torchrl.modules.layers.activations import Activation
from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.layers.style import Initialization, LayerStyle
from tm_torchrl.modules.layers.transformer import POSITION_DEVIATION, Transformer


class ViTEncoder(ImageEncoder):
    """A small vision transformer (Dosovitskiy et al. 2021) over images of any size that patches divide.

    Its features are the mean of its tokens (Beyer et al. 2022), so D = M. ``Unified`` reads the tokens themselves;
    there ``num_layers=0`` leaves all attention to the fusion.

    Args:
        image_size: H = W, or (H, W); multiples of ``patch_size``.
        channels: The number of channels of the image.
        patch_size: The edge of a patch; 8 x 8 cut 64 x 64 pixels into 64 patches.
        size: M.
        num_layers: The number of transformer blocks; 0 for the patches alone.
        num_heads: The number of attention heads, which must divide M.
        activation: The activation of the feed-forward layers: a name, or a function that makes one.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

    Examples:
        >>> encoder = ViTEncoder(size=32)
        >>> images = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
        >>> encoder(images).shape, encoder.tokens(images).shape
        (torch.Size([2, 32]), torch.Size([2, 64, 32]))
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 64,
        channels: int = 1,
        patch_size: int = 8,
        size: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        activation: Activation = "gelu",
        initialization: Initialization | None = "orthogonal",
    ) -> None:
        super().__init__()
        height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
        counts = {"image_size": min(height, width), "channels": channels, "patch_size": patch_size, "size": size}
        for name, value in counts.items():
            require_count(value, argument=name)
        if height % patch_size or width % patch_size:
            fitting = [edge for edge in range(2, 33) if height % edge == 0 and width % edge == 0]
            raise ValueError(
                f"patch_size={patch_size}: must divide the image, {height} x {width}; give one of "
                f"{', '.join(map(str, fitting))}"
            )
        self.image_size = image_size
        self.num_features = size
        self.num_tokens = (height // patch_size) * (width // patch_size)
        style = LayerStyle(activation=activation, initialization=initialization)
        self.patches = nn.Conv2d(channels, size, patch_size, stride=patch_size)
        style.initialize(self.patches, 1.0)
        self.position = nn.Parameter(POSITION_DEVIATION * torch.randn(self.num_tokens, size))
        self.transformer = Transformer(size, num_layers=num_layers, num_heads=num_heads, style=style)

    @property
    def token_size(self) -> int:
        """M."""
        return self.num_features

    def features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from images in -1..1."""
        return self.token_features(images_BCHW).mean(1)

    def token_features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, T, M]`` from images in -1..1."""
        tokens_BTM: Tensor = self.transformer(self.patches(images_BCHW).flatten(2).transpose(1, 2) + self.position)
        return tokens_BTM
