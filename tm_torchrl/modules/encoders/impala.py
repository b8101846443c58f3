"""The residual convolutions of IMPALA.

Shapes: B batch, C channels, H and W pixels, D features.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from tm_torchrl.modules.encoders.images import scaled_images
from tm_torchrl.modules.encoders.pooling import pooling_layers
from tm_torchrl.modules.layers.activations import Activation, growth_of, make_activation
from tm_torchrl.modules.layers.choices import require_count
from tm_torchrl.modules.layers.dense import Initialization
from tm_torchrl.modules.layers.initialization import HIDDEN_GAIN, orthogonal_
from tm_torchrl.modules.layers.spectral_norm import Convolution, convolutions, norms_of, run_with

CHANNELS = (16, 32, 32)  # of the three stages at width 1


class ResidualBlock(nn.Module):
    """Activation, convolution, activation, convolution, plus what came in.

    Args:
        channels: in and out.
        convolution: makes one.
        activation: makes one, or its name.
        initialization: of the weights.

    Examples:
        >>> import torch
        >>> ResidualBlock(8)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        *,
        convolution: Convolution = nn.Conv2d,
        activation: Activation = "relu",
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        first = make_activation(activation, dim=1, in_place=False)  # what comes in is added again
        inputs = channels * growth_of(first)
        self.layers = nn.Sequential(
            first,
            convolution(inputs, channels, 3, padding=1),
            make_activation(activation, dim=1),
            convolution(inputs, channels, 3, padding=1),
        )
        if initialization is not None:
            initialization(self.layers[1], HIDDEN_GAIN)
            initialization(self.layers[3], HIDDEN_GAIN)

    def forward(self, maps_BCHW: Tensor, norms: Iterator[Tensor] | None = None) -> Tensor:
        """The same shape; ``norms`` are those of normalised convolutions, if they are known already."""
        norms = norms_of(self) if norms is None else norms
        hidden_BCHW = maps_BCHW
        for layer in self.layers:
            hidden_BCHW = run_with(layer, hidden_BCHW, norms)
        return maps_BCHW + hidden_BCHW


class ImpalaEncoder(nn.Module):
    """The residual network of IMPALA (Espeholt et al. 2018) over images: what BTR sees with, at width 2.

    Three stages of 16, 32 and 32 channels times the width: a convolution, a maximum over 3 x 3 with stride 2, two
    residual blocks. Each halves the edge, rounding up: 64 pixels become 8. After the last an activation and the
    pooling. With ``"crelu"`` every convolution behind an activation reads twice as many channels, and the features are
    twice as many.

    Args:
        image_size: H = W.
        channels: of the image.
        width: 1, 2 or 4 in papers.
        pooling: ``"flatten"``, ``"max"``, ``"average"`` or ``"global_average"``.
        pool_size: edge of what ``"max"`` and ``"average"`` leave; ``None`` for 6.
        spectral_norm: ``None``, ``"residual"`` (the blocks' convolutions: BTR's paper) or ``"all"`` convolutions.
        activation: makes one, or its name.
        initialization: of the weights.

    Examples:
        >>> import torch
        >>> ImpalaEncoder(width=2, pooling="max")(torch.zeros(2, 1, 64, 64, dtype=torch.uint8)).shape
        torch.Size([2, 2304])
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 64,
        channels: int = 1,
        width: int = 1,
        pooling: str = "flatten",
        pool_size: int | None = None,
        spectral_norm: str | None = None,
        activation: Activation = "relu",
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        if isinstance(image_size, tuple):
            raise ValueError(f"image_size={image_size}: square images are wanted; PixelEncoder takes others")
        for name, value in (("image_size", image_size), ("channels", channels), ("width", width)):
            require_count(value, argument=name)
        self.image_size = image_size
        plain, residual = convolutions(spectral_norm, has_residual_blocks=True)
        layers: list[nn.Module] = []
        size, inputs = image_size, channels
        for outputs in (width * base for base in CHANNELS):
            first = plain(inputs, outputs, 3, padding=1)
            if initialization is not None:
                initialization(first, HIDDEN_GAIN)
            layers += [first, nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [
                ResidualBlock(outputs, convolution=residual, activation=activation, initialization=initialization)
                for _ in range(2)
            ]
            size, inputs = (size + 1) // 2, outputs
        last = make_activation(activation, dim=1)
        pool, self.num_features = pooling_layers(
            pooling, pool_size=pool_size, map_size=size, channels=inputs * growth_of(last)
        )
        self.layers = nn.Sequential(*layers, last, *pool)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from uint8 pixels, scaled to -1..1."""
        hidden = scaled_images(pixels_BCHW)
        norms = norms_of(self)  # all at once
        for layer in self.layers:
            hidden = layer(hidden, norms) if isinstance(layer, ResidualBlock) else run_with(layer, hidden, norms)
        return hidden
