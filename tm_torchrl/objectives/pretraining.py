"""Losses that train an encoder of images without labels: autoencoders and contrast between views of an image.

Each has a ``network``, ``VisionNetwork``, and layers of its own that only training needs.

Shapes: B batch, C channels, H and W pixels, D features, L latent numbers, P numbers of a projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.nn import functional as F

from tm_torchrl.envs.transforms.random_shift import shift_images
from tm_torchrl.modules.encoders.images import scaled_images
from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.vision import ImageDecoder, VisionNetwork


def gaussian_kl(mean_BL: Tensor, log_variance_BL: Tensor) -> Tensor:
    """The divergence of normal distributions from the standard one, summed over L: ``[B]`` (Kingma and Welling 2014).

    Args:
        mean_BL: Means.
        log_variance_BL: Logarithms of the variances.

    Examples:
        >>> gaussian_kl(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))  # half of 2 squared
        tensor([2.])
    """
    return 0.5 * (mean_BL.square() + log_variance_BL.exp() - 1.0 - log_variance_BL).sum(-1)


def nt_xent(first_BP: Tensor, second_BP: Tensor, *, temperature: float) -> Tensor:
    """The contrastive loss of SimCLR, a mean over 2B views (Chen et al. 2020).

    Each view shall find the other view of its image among the 2B - 1 others, by the cosine of their angle.

    Args:
        first_BP: Projections of one view of each image.
        second_BP: Those of the other view.
        temperature: Divides the cosines.
    """
    views = F.normalize(torch.cat([first_BP, second_BP]).float(), dim=-1)
    logits = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    num = len(first_BP)
    return F.cross_entropy(logits, torch.arange(2 * num, device=views.device).roll(num))


class AutoencoderLoss(nn.Module):
    """The squared error of images that a decoder makes from the features of an encoder, a mean over pixels in -1..1.

    Args:
        network: The encoder.
        image_shape: ``(channels, height, width)``.
        width: Channels of the decoder's last hidden map.

    Examples:
        >>> from tensordict import TensorDict
        >>> from tm_torchrl.modules import PixelEncoder, VisionNetwork
        >>> network = VisionNetwork(PixelEncoder, image_shape=(1, 64, 64))
        >>> batch = TensorDict({"pixels": torch.full((4, 1, 64, 64), 128, dtype=torch.uint8)}, [4])  # 128 is 0
        >>> bool(AutoencoderLoss(network, image_shape=(1, 64, 64))(batch)["loss"] < 0.1)
        True
    """

    out_keys: Sequence[str] = ("loss",)

    def __init__(self, network: VisionNetwork, *, image_shape: Sequence[int], width: int = 16) -> None:
        super().__init__()
        self.network = network
        self.decoder = ImageDecoder(network.num_features, image_shape=image_shape, width=width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: parameters, and ``lr_scale``, which multiplies their learning rate."""
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]

    def forward(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """The loss of ``pixels``, uint8 ``[B, C, H, W]``."""
        pixels = batch.get("pixels")
        return {"loss": F.mse_loss(self.decoder(self.network(pixels)).float(), scaled_images(pixels))}

    def reconstructed(self, pixels: Tensor) -> Tensor:
        """Images in -1..1 as the decoder makes them.

        Args:
            pixels: Uint8 ``[B, C, H, W]``.
        """
        images: Tensor = self.decoder(self.network(pixels))
        return images


class VAELoss(nn.Module):
    """A variational autoencoder (Kingma and Welling 2014): squared error over pixels, plus the weighted divergence.

    Two dense layers over the features give mean and variance of the latent numbers, from which the decoder begins.

    Args:
        network: The encoder.
        image_shape: ``(channels, height, width)``.
        num_latents: L; 64 in rulka.
        kl_weight: Multiplies the divergence, which is summed over L; 1e-3 in rulka.
        width: Channels of the decoder's last hidden map.
    """

    out_keys: Sequence[str] = ("loss_reconstruction", "loss_kl")

    def __init__(
        self,
        network: VisionNetwork,
        *,
        image_shape: Sequence[int],
        num_latents: int = 64,
        kl_weight: float = 1e-3,
        width: int = 16,
    ) -> None:
        super().__init__()
        require_count(num_latents, argument="num_latents")
        if not kl_weight >= 0:
            raise ValueError(f"kl_weight={kl_weight}: must be at least 0")
        self.network = network
        self.kl_weight = kl_weight
        self.moments = nn.Linear(network.num_features, 2 * num_latents)
        self.decoder = ImageDecoder(num_latents, image_shape=image_shape, width=width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: parameters, and ``lr_scale``, which multiplies their learning rate."""
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]

    def forward(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Both losses of ``pixels``, uint8 ``[B, C, H, W]``; their sum is minimised."""
        pixels = batch.get("pixels")
        mean, log_variance = self.moments(self.network(pixels)).float().chunk(2, -1)
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return {
            "loss_reconstruction": F.mse_loss(self.decoder(latent).float(), scaled_images(pixels)),
            "loss_kl": self.kl_weight * gaussian_kl(mean, log_variance).mean(),
        }

    def reconstructed(self, pixels: Tensor) -> Tensor:
        """Images in -1..1 as the decoder makes them of the means.

        Args:
            pixels: Uint8 ``[B, C, H, W]``.
        """
        mean, _ = self.moments(self.network(pixels)).chunk(2, -1)
        images: Tensor = self.decoder(mean)
        return images


class SimCLRLoss(nn.Module):
    """Contrast between two views of an image (Chen et al. 2020): both are shifted at random.

    Where the batch has ``positive``, images a little later in the same lap, these are the other views.

    Args:
        network: The encoder.
        image_shape: ``(channels, height, width)``; the smaller edge limits ``shift``.
        temperature: Divides cosines; 0.5 in rulka.
        projection_size: P; 128 in rulka.
        shift: The largest shift in pixels along each axis; 0 for none.
    """

    out_keys: Sequence[str] = ("loss",)

    def __init__(
        self,
        network: VisionNetwork,
        *,
        image_shape: Sequence[int],
        temperature: float = 0.5,
        projection_size: int = 128,
        shift: int = 4,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be positive")
        if not 0 <= shift < min(image_shape[1:]):
            raise ValueError(f"shift={shift}: must be at least 0, and smaller than the image")
        require_count(projection_size, argument="projection_size")
        self.network = network
        self.temperature = temperature
        self.shift = shift
        size = projection_size
        self.projection = nn.Sequential(
            nn.Linear(network.num_features, size), nn.ReLU(inplace=True), nn.Linear(size, size)
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: parameters, and ``lr_scale``, which multiplies their learning rate."""
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]

    def forward(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """The loss of ``pixels``, uint8 ``[B, C, H, W]``, and ``positive``, if there are any."""
        pixels = batch.get("pixels")
        views = torch.cat([self._shifted(pixels), self._shifted(batch.get("positive", pixels))])
        first, second = self.projection(self.network(views)).chunk(2)
        return {"loss": nt_xent(first, second, temperature=self.temperature)}

    def _shifted(self, pixels: Tensor) -> Tensor:
        if not self.shift:
            return pixels
        offset = torch.randint(2 * self.shift + 1, (len(pixels), 2)).to(pixels.device)
        return shift_images(pixels, offset, pad=self.shift)
