"""Convolutions divided by their spectral norm, which is computed from the weights alone: no state, no power iteration.

Shapes: O outputs, K inputs times kernel area.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SMALLEST = 1e-12
NUM_SQUARINGS = 6  # G^64
CHOICES = ("residual", "all")

Convolution = Callable[..., nn.Conv2d]


def spectral_norm(weight: Tensor) -> Tensor:
    """The largest singular value of a weight ``[O, ...]`` seen as a matrix ``[O, K]``, with its gradient.

    With G = W W^T and P = G^64 / trace(G^64) it is sqrt(trace(P G)): the mean of the squared singular values, each
    weighted by its 128th power. Where the first two are far apart P is u u^T; where they are near each other their mean
    is near either. It is never above the true norm and, for up to 128 outputs, at most 2.5 % below it. P counts as
    constant for the gradient, which is then u v^T. Some products of small matrices replace the power iteration of
    Miyato et al. (2018), whose vectors would be a state: stale in copies of a network, moved by evaluations.

    Examples:
        >>> spectral_norm(torch.diag(torch.tensor([3.0, 2.0, 0.0])))
        tensor(3.)
    """
    kind = weight.device.type
    if torch.is_autocast_enabled(kind):  # asked first, since torch.export cannot save such a region with gradients off
        with torch.autocast(kind, enabled=False):
            return _norm(weight.flatten(1))
    return _norm(weight.flatten(1))


def _norm(matrix: Tensor) -> Tensor:
    with torch.no_grad():
        power = _scaled(matrix @ matrix.T)
        for _ in range(NUM_SQUARINGS):
            power = _scaled(power @ power)
        power = power / power.diagonal().sum().clamp(min=SMALLEST)
    return (matrix * (power @ matrix)).sum().clamp(min=SMALLEST).sqrt()


def _scaled(matrix: Tensor) -> Tensor:
    """Of norm 1, so that powers neither vanish nor overflow."""
    return matrix / matrix.norm().clamp(min=SMALLEST)


class SpectralConv2d(nn.Conv2d):
    """A convolution with weights of spectral norm 1 (Miyato et al. 2018); the bias is as it is.

    Its parameters are those of ``nn.Conv2d``, with the same names.

    Examples:
        >>> layer = SpectralConv2d(1, 4, 3)
        >>> doubled = nn.Conv2d(1, 4, 3)
        >>> _ = doubled.load_state_dict({"weight": 2 * layer.weight, "bias": layer.bias})
        >>> again = SpectralConv2d(1, 4, 3)
        >>> _ = again.load_state_dict(doubled.state_dict())
        >>> image = torch.rand(2, 1, 8, 8)
        >>> torch.allclose(layer(image), again(image), atol=1e-6)
        True
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """As ``nn.Conv2d``."""
        output: Tensor = self._conv_forward(inputs, self.weight / spectral_norm(self.weight), self.bias)
        return output


def convolutions(spectral_norm: str | None, *, has_residual_blocks: bool) -> tuple[Convolution, Convolution]:
    """What makes the plain convolutions of an encoder, and what makes those of its residual blocks.

    Args:
        spectral_norm: ``None``, ``"residual"`` (BTR's paper) or ``"all"``.
        has_residual_blocks: whether the encoder does.

    Examples:
        >>> [made.__name__ for made in convolutions("residual", has_residual_blocks=True)]
        ['Conv2d', 'SpectralConv2d']
    """
    if spectral_norm is None:
        return nn.Conv2d, nn.Conv2d
    if spectral_norm not in CHOICES:
        raise ValueError(f"spectral_norm={spectral_norm!r}: None, {', '.join(map(repr, CHOICES))} are known")
    if spectral_norm == "all":
        return SpectralConv2d, SpectralConv2d
    if not has_residual_blocks:
        raise ValueError("spectral_norm='residual': this encoder has no residual blocks; give 'all' or None")
    return nn.Conv2d, SpectralConv2d
