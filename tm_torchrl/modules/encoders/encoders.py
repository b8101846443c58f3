"""From observations to features: floats, pixels, both.

Shapes: B batch, F floats, D features, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tm_torchrl.modules.encoders.images import scaled_images
from tm_torchrl.modules.encoders.pooling import pooling_layers
from tm_torchrl.modules.layers.activations import Activation, leaky_relu, make_activation, outputs_before
from tm_torchrl.modules.layers.choices import require_count, require_sizes
from tm_torchrl.modules.layers.dense import Initialization, dense
from tm_torchrl.modules.layers.initialization import HIDDEN_GAIN, orthogonal_
from tm_torchrl.modules.layers.spectral_norm import convolutions


class Normalize(nn.Module):
    """``(x - mean) / scale`` with fixed constants, as a network's first layer.

    Args:
        mean: for each input.
        scale: for each input, positive.
        columns: of the inputs that go on; the others are hidden from the network. All by default.

    Examples:
        >>> Normalize([1.0, 2.0], [1.0, 4.0])(torch.tensor([2.0, 4.0]))
        tensor([1.0000, 0.5000])
        >>> Normalize([1.0, 2.0], [1.0, 4.0], columns=[1])(torch.tensor([2.0, 4.0]))
        tensor([0.5000])
    """

    mean: Tensor
    scale: Tensor
    columns: Tensor | None

    def __init__(
        self,
        mean: Sequence[float] | Tensor,
        scale: Sequence[float] | Tensor,
        *,
        columns: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        mean, scale = (torch.as_tensor(x, dtype=torch.float32).clone() for x in (mean, scale))
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise ValueError(f"mean {tuple(mean.shape)} and scale {tuple(scale.shape)}: two vectors of one size wanted")
        if not bool((scale > 0).all()):
            raise ValueError(f"scale[{int((scale > 0).int().argmin())}]={float(scale.min())}: scales must be positive")
        if columns is not None and not (columns and all(0 <= column < len(mean) for column in columns)):
            raise ValueError(f"columns={list(columns)}: at least one, each in 0..{len(mean) - 1}, wanted")
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("columns", None if columns is None else torch.tensor(columns), persistent=False)

    @property
    def num_outputs(self) -> int:
        """Inputs that go on."""
        return len(self.mean if self.columns is None else self.columns)

    def forward(self, values: Tensor) -> Tensor:
        """The same shape but for hidden columns, normalised."""
        normal = (values - self.mean) / self.scale
        return normal if self.columns is None else normal.index_select(-1, self.columns)


class FloatEncoder(nn.Module):
    """Dense layers over a vector observation.

    Args:
        num_inputs: F.
        hidden_sizes: one for each layer; the last is D.
        normalize: first layer.
        layer_norm: normalise each layer before its activation.
        activation: makes one, or its name.
        initialization: of the weights.

    Examples:
        >>> FloatEncoder(184)(torch.zeros(2, 184)).shape
        torch.Size([2, 256])
    """

    def __init__(
        self,
        num_inputs: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        normalize: Normalize | None = None,
        layer_norm: bool = False,
        activation: Activation = leaky_relu,
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        require_count(num_inputs, argument="num_inputs")
        require_sizes(hidden_sizes, argument="hidden_sizes")
        if normalize is not None and len(normalize.mean) != num_inputs:
            raise ValueError(f"normalize has {len(normalize.mean)} constants; num_inputs={num_inputs}")
        self.num_features = hidden_sizes[-1]
        self.normalize = normalize
        num_seen = num_inputs if normalize is None else normalize.num_outputs
        self.layers = dense(
            [num_seen, *hidden_sizes], layer_norm=layer_norm, activation=activation, initialization=initialization
        )

    def forward(self, floats_BF: Tensor) -> Tensor:
        """``[B, D]``."""
        return self.layers(floats_BF if self.normalize is None else self.normalize(floats_BF))


class PixelEncoder(nn.Module):
    """The four convolutions of the Linesight agent over grey images.

    Channels 16, 32, 64, 32 with kernels 4, 4, 3, 3 and strides 2, 2, 2, 1; 64 x 64 pixels become a map of 4 x 4, or
    512 features.

    Args:
        image_size: H = W, or (H, W), such as the Linesight agent's (120, 160), which can only be flattened.
        channels: of the image.
        pooling: ``"flatten"``, ``"max"``, ``"average"`` or ``"global_average"``.
        pool_size: edge of what ``"max"`` and ``"average"`` leave; ``None`` for 6.
        spectral_norm: ``None`` or ``"all"`` convolutions.
        activation: makes one, or its name.
        initialization: of the weights.

    Examples:
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
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
        for name, value in (("image_size", height), ("image_size", width), ("channels", channels)):
            require_count(value, argument=name)
        self.image_size = image_size
        convolution, _ = convolutions(spectral_norm, has_residual_blocks=False)
        layers: list[nn.Module] = []
        if height != width and pooling != "flatten":
            raise ValueError(f"image_size={image_size}: pooling={pooling!r} is for squares; give pooling='flatten'")
        inputs = channels
        for outputs, kernel, stride in ((16, 4, 2), (32, 4, 2), (64, 3, 2), (32, 3, 1)):
            active = make_activation(activation, dim=1)
            layers += [convolution(inputs, outputs_before(active, outputs), kernel, stride), active]
            if initialization is not None:
                initialization(layers[-2], HIDDEN_GAIN)
            height, width = ((size - kernel) // stride + 1 for size in (height, width))
            inputs = outputs
        if min(height, width) < 1:
            raise ValueError(f"image_size={image_size}: too small for four convolutions; 34 is the least")
        pool, self.num_features = pooling_layers(pooling, pool_size=pool_size, map_size=height, channels=inputs)
        if height != width:
            self.num_features = height * width * inputs
        self.layers = nn.Sequential(*layers, *pool)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from uint8 pixels, scaled to -1..1."""
        return self.layers(scaled_images(pixels_BCHW))


class SmallPixelEncoder(nn.Module):
    """One convolution of 16 channels, 3 x 3, over images of a few pixels (Young and Tian 2019, MinAtar).

    Args:
        image_size: H = W.
        channels: of the image.
        activation: makes one, or its name.
        initialization: of the weights.

    Examples:
        >>> SmallPixelEncoder(image_size=10, channels=4)(torch.zeros(2, 4, 10, 10, dtype=torch.uint8)).shape
        torch.Size([2, 1024])
    """

    def __init__(
        self,
        *,
        image_size: int = 10,
        channels: int = 4,
        activation: Activation = "relu",
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        for name, value in (("image_size", image_size), ("channels", channels)):
            require_count(value, argument=name)
        if image_size < 3:
            raise ValueError(f"image_size={image_size}: too small for a convolution of 3 x 3; 3 is the least")
        self.image_size = image_size
        active = make_activation(activation, dim=1)
        convolution = nn.Conv2d(channels, outputs_before(active, 16), 3)
        if initialization is not None:
            initialization(convolution, HIDDEN_GAIN)
        self.layers = nn.Sequential(convolution, active, nn.Flatten())
        self.num_features = 16 * (image_size - 2) ** 2

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from uint8 pixels, scaled to -1..1."""
        return self.layers(scaled_images(pixels_BCHW))


class PixelFloatEncoder(nn.Module):
    """Features of an image and of a vector, side by side.

    Args:
        pixels: encoder of the first observation.
        floats: encoder of the second.

    Examples:
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
