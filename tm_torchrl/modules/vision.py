"""An encoder of images alone, under the names that it has in the network of a driver, and what it is trained with.

Shapes: B batch, C channels, H and W pixels, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from tm_torchrl.modules.encoders.images import ImageEncoder
from tm_torchrl.modules.encoders.multi import MultiEncoder
from tm_torchrl.modules.freezing import NetworkOfParts
from tm_torchrl.modules.layers.activations import Activation, leaky_relu
from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.layers.style import Initialization, LayerStyle
from tm_torchrl.modules.network_options import ModuleMaker, Observations


class VisionNetwork(NetworkOfParts):
    """The part ``vision`` of a network, made as there and under the same name, ``encoder.pixels``.

    Args:
        image: Makes the encoder of images, such as ``PixelEncoder``.
        image_shape: ``(channels, height, width)``.
        activation: The activation of the network that the encoder is for.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

    Examples:
        >>> import torch
        >>> from tm_torchrl.modules import PixelEncoder
        >>> network = VisionNetwork(PixelEncoder, image_shape=(1, 64, 64))
        >>> network(torch.zeros(2, 1, 64, 64, dtype=torch.uint8)).shape, next(iter(network.state_dict()))
        (torch.Size([2, 512]), 'encoder.pixels.layers.0.weight')
    """

    def __init__(
        self,
        image: ModuleMaker | None,
        *,
        image_shape: Sequence[int],
        activation: Activation = leaky_relu,
        initialization: Initialization | None = "orthogonal",
    ) -> None:
        super().__init__()
        seen = Observations(None, (), None, image, image_shape, None)
        pixels = seen.make_image_encoder(LayerStyle(activation, initialization=initialization))
        if not isinstance(pixels, ImageEncoder):
            raise ValueError(f"image={type(pixels).__name__}: must make an encoder of images, such as PixelEncoder")
        self.encoder = MultiEncoder({"pixels": pixels})
        self.num_features = pixels.num_features

    def forward(self, pixels: Tensor) -> Tensor:
        """Features ``[*B, D]`` of uint8 pixels ``[*B, C, H, W]``."""
        features: Tensor = self.encoder(pixels)
        return features


class VisionActor(TensorDictModuleBase):
    """Reads ``pixels`` and writes ``features``: what a pretraining evaluates and saves in place of a driver.

    Args:
        network: The network.

    Examples:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tm_torchrl.modules import PixelEncoder
        >>> actor = VisionActor(VisionNetwork(PixelEncoder, image_shape=(1, 64, 64)))
        >>> actor(TensorDict({"pixels": torch.zeros(2, 1, 64, 64, dtype=torch.uint8)}, [2]))["features"].shape
        torch.Size([2, 512])
    """

    in_keys, out_keys = ["pixels"], ["features"]

    def __init__(self, network: VisionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the features."""
        return tensordict.set("features", self.network(tensordict.get("pixels")))


class ImageDecoder(nn.Module):
    """Images in -1..1 from features: a dense layer to a map of an eighth of the edges, and three layers that double it.

    Args:
        num_features: D.
        image_shape: ``(channels, height, width)``.
        width: The number of channels of the last hidden map; the first one has four times as many.

    Examples:
        >>> import torch
        >>> ImageDecoder(16, image_shape=(1, 60, 84))(torch.zeros(2, 16)).shape
        torch.Size([2, 1, 60, 84])
    """

    def __init__(self, num_features: int, *, image_shape: Sequence[int], width: int = 16) -> None:
        super().__init__()
        require_count(width, argument="width")
        channels, self.height, self.width = image_shape
        first = (4 * width, math.ceil(self.height / 8), math.ceil(self.width / 8))
        self.layers = nn.Sequential(
            nn.Linear(num_features, math.prod(first)),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, first),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        )

    def forward(self, features_BD: Tensor) -> Tensor:
        """``[B, C, H, W]``; where 8 does not divide the edges, what is too much is cut off."""
        images: Tensor = self.layers(features_BD)
        return images[..., : self.height, : self.width]
