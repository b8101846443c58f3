"""Plain convolutions over images: the Linesight agent's, and one layer for images of a few pixels.

Shapes: B batch, C channels, H and W pixels, D features.
"""

from __future__ import annotations

from torch import Tensor, nn

from tm_torchrl.modules.encoders.images import ImageEncoder
from tm_torchrl.modules.encoders.pooling import pooling_layers
from tm_torchrl.modules.layers.activations import Activation, leaky_relu, outputs_before
from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.layers.spectral_norm import convolutions
from tm_torchrl.modules.layers.style import Initialization, LayerStyle


class PixelEncoder(ImageEncoder):
    """The four convolutions of the Linesight agent over grey images.

    Channels 16, 32, 64, 32 with kernels 4, 4, 3, 3 and strides 2, 2, 2, 1; 64 x 64 pixels become a map of 4 x 4, or
    512 features.

    Args:
        image_size: H = W, or (H, W), such as the Linesight agent's (120, 160), which can only be flattened.
        channels: The number of channels of the image.
        pooling: ``"flatten"``, ``"max"``, ``"average"`` or ``"global_average"``.
        pool_size: The edge of the map that ``"max"`` and ``"average"`` leave; ``None`` for 6.
        spectral_norm: ``"all"`` normalises the convolutions; ``None`` does not.
        activation: The name of an activation, or a function that makes one.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

    Examples:
        >>> import torch
        >>> PixelEncoder()(torch.zeros(2, 1, 64, 64, dtype=torch.uint8)).shape
        torch.Size([2, 512])
        >>> PixelEncoder(image_size=(120, 160)).num_features
        5632
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 64,
        channels: int = 1,
        pooling: str = "flatten",
        pool_size: int | None = None,
        spectral_norm: str | None = None,
        activation: Activation = leaky_relu,
        initialization: Initialization | None = "orthogonal",
    ) -> None:
        super().__init__()
        height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
        for name, value in (("image_size", height), ("image_size", width), ("channels", channels)):
            require_count(value, argument=name)
        self.image_size = image_size
        convolution, _ = convolutions(spectral_norm, has_residual_blocks=False)
        style = LayerStyle(activation=activation, initialization=initialization)
        layers: list[nn.Module] = []
        if height != width and pooling != "flatten":
            raise ValueError(f"image_size={image_size}: pooling={pooling!r} needs square images; use pooling='flatten'")
        inputs = channels
        for outputs, kernel, stride in ((16, 4, 2), (32, 4, 2), (64, 3, 2), (32, 3, 1)):
            active = style.make_activation(dim=1)
            layers += [convolution(inputs, outputs_before(active, outputs), kernel, stride), active]
            style.initialize(layers[-2])
            height, width = ((size - kernel) // stride + 1 for size in (height, width))
            inputs = outputs
        if min(height, width) < 1:
            raise ValueError(f"image_size={image_size}: too small for four convolutions; must be at least 34")
        pool, self.num_features = pooling_layers(pooling, pool_size=pool_size, map_size=height, channels=inputs)
        if height != width:
            self.num_features = height * width * inputs
        self.num_tokens = self.num_features // inputs
        self.layers = nn.Sequential(*layers, *pool)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from images in -1..1."""
        return self.layers(images_BCHW)


class SmallPixelEncoder(ImageEncoder):
    """One convolution of 16 channels, 3 x 3, over images of a few pixels (Young and Tian 2019, MinAtar).

    Args:
        image_size: H = W.
        channels: The number of channels of the image.
        activation: The name of an activation, or a function that makes one.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

    Examples:
        >>> import torch
        >>> SmallPixelEncoder(image_size=10, channels=4)(torch.zeros(2, 4, 10, 10, dtype=torch.uint8)).shape
        torch.Size([2, 1024])
    """

    def __init__(
        self,
        *,
        image_size: int = 10,
        channels: int = 4,
        activation: Activation = "relu",
        initialization: Initialization | None = "orthogonal",
    ) -> None:
        super().__init__()
        for name, value in (("image_size", image_size), ("channels", channels)):
            require_count(value, argument=name)
        if image_size < 3:
            raise ValueError(f"image_size={image_size}: too small for a convolution of 3 x 3; must be at least 3")
        self.image_size = image_size
        style = LayerStyle(activation=activation, initialization=initialization)
        active = style.make_activation(dim=1)
        convolution = nn.Conv2d(channels, outputs_before(active, 16), 3)
        style.initialize(convolution)
        self.layers = nn.Sequential(convolution, active, nn.Flatten())
        self.num_tokens = (image_size - 2) ** 2
        self.num_features = 16 * self.num_tokens

    def features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from images in -1..1."""
        return self.layers(images_BCHW)
