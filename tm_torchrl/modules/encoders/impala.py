"""The residual convolutions of IMPALA.

Shapes: B batch, C channels, H and W pixels, D features.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from tm_torchrl.modules.encoders.images import ImageEncoder
from tm_torchrl.modules.encoders.pooling import pooling_layers
from tm_torchrl.modules.layers.activations import Activation, growth_of
from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.layers.spectral_norm import Convolution, convolutions, norms_of, run_with
from tm_torchrl.modules.layers.style import Initialization, LayerStyle

CHANNELS = (16, 32, 32)  # outputs of the three stages at width 1


class ResidualBlock(nn.Module):
    """Activation, convolution, activation, convolution, plus the block's own input.

    Args:
        channels: The number of channels of input and output.
        style: Activation and first weights.
        convolution: The class of the convolutions.

    Examples:
        >>> import torch
        >>> ResidualBlock(8, LayerStyle(activation="relu"))(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(self, channels: int, style: LayerStyle, *, convolution: Convolution = nn.Conv2d) -> None:
        super().__init__()
        first = style.make_activation(dim=1, in_place=False)  # the input is needed again for the sum
        inputs = channels * growth_of(first)
        self.layers = nn.Sequential(
            first,
            convolution(inputs, channels, 3, padding=1),
            style.make_activation(dim=1),
            convolution(inputs, channels, 3, padding=1),
        )
        style.initialize(self.layers[1])
        style.initialize(self.layers[3])

    def forward(self, maps_BCHW: Tensor, norms: Iterator[Tensor] | None = None) -> Tensor:
        """Maps of the same shape; ``norms`` are those of normalised convolutions, if they are computed already."""
        norms = norms_of(self) if norms is None else norms
        hidden_BCHW = maps_BCHW
        for layer in self.layers:
            hidden_BCHW = run_with(layer, hidden_BCHW, norms)
        return maps_BCHW + hidden_BCHW


class ImpalaEncoder(ImageEncoder):
    """The residual convolutions of IMPALA (Espeholt et al. 2018) over images; BTR uses them at width 2.

    Three stages of 16, 32 and 32 channels times the width, each with a convolution, a maximum over 3 x 3 with stride 2
    and two residual blocks. Each stage halves the edge, rounding up: 64 pixels become 8. An activation and the pooling
    follow the last stage. With ``"crelu"`` every convolution after an activation reads twice as many channels, and
    there are twice as many features.

    Args:
        image_size: H = W.
        channels: The number of channels of the image.
        width: Multiplies the channels of all stages; 1, 2 or 4 in papers.
        pooling: ``"flatten"``, ``"max"``, ``"average"`` or ``"global_average"``.
        pool_size: The edge of the map that ``"max"`` and ``"average"`` leave; ``None`` for 6.
        spectral_norm: The normalised convolutions: ``None``, ``"residual"`` (those of the blocks: BTR's paper) or
            ``"all"``.
        stem_stride: The stride of the first convolution; 2 halves all maps, for a quarter of the time.
        layer_norm: Whether each image's features are normalised, without weights. They are else 12 to 50 times as large
            as those of floats beside them, of which a head then sees little.
        activation: The name of an activation, or a function that makes one.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

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
        stem_stride: int = 1,
        layer_norm: bool = False,
        activation: Activation = "relu",
        initialization: Initialization | None = "orthogonal",
    ) -> None:
        super().__init__()
        if isinstance(image_size, tuple):
            raise ValueError(f"image_size={image_size}: images must be square; PixelEncoder takes others")
        counts = {"image_size": image_size, "channels": channels, "width": width, "stem_stride": stem_stride}
        for name, value in counts.items():
            require_count(value, argument=name)
        self.image_size = image_size
        plain, residual = convolutions(spectral_norm, has_residual_blocks=True)
        style = LayerStyle(activation=activation, initialization=initialization)
        layers: list[nn.Module] = []
        size, inputs, stride = -(-image_size // stem_stride), channels, stem_stride
        for outputs in (width * base for base in CHANNELS):
            first = plain(inputs, outputs, 3, stride=stride, padding=1)
            style.initialize(first)
            layers += [first, nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [ResidualBlock(outputs, style, convolution=residual) for _ in range(2)]
            size, inputs, stride = (size + 1) // 2, outputs, 1
        last = style.make_activation(dim=1)
        pool, self.num_features = pooling_layers(
            pooling, pool_size=pool_size, map_size=size, channels=inputs * growth_of(last)
        )
        self.num_tokens = self.num_features // (inputs * growth_of(last))
        self.layers = nn.Sequential(*layers, last, *pool)
        self.layer_norm = layer_norm

    def features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from images in -1..1."""
        hidden = images_BCHW
        norms = norms_of(self)  # of all convolutions at once, which is faster
        for layer in self.layers:
            hidden = layer(hidden, norms) if isinstance(layer, ResidualBlock) else run_with(layer, hidden, norms)
        return F.layer_norm(hidden, hidden.shape[-1:]) if self.layer_norm else hidden
