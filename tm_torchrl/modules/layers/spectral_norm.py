"""Convolutions whose weights are divided by their spectral norm, computed from the weights alone, without a state.

Shapes: G weights of one size, O outputs, K inputs times kernel area.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from tm_torchrl.modules.layers.dense import full_precision

SMALLEST = 1e-12

Convolution = Callable[..., nn.Conv2d]


def spectral_norm(weight: Tensor) -> Tensor:
    """The largest singular value of a weight ``[O, ...]`` taken as a matrix ``[O, K]``, with its gradient.

    With G = W W^T and P = G^64 / trace(G^64) it is sqrt(trace(P G)): the mean of the squared singular values, each
    weighted by its 128th power. Where the two largest are far apart P is u u^T; where they are close, their mean is
    close to both. The result is never above the true norm and, for up to 128 outputs, at most 2.5 % below it. P counts
    as constant for the gradient, which is then u v^T. The power iteration of Miyato et al. (2018) would need vectors as
    a state, which are stale in copies of a network and change in evaluation.

    Examples:
        >>> spectral_norm(torch.diag(torch.tensor([3.0, 2.0, 0.0])))
        tensor(3.)
    """
    return spectral_norms([weight])[0]


def spectral_norms(weights: Sequence[Tensor]) -> list[Tensor]:
    """The spectral norm of each weight. Weights with the same number of outputs are computed together, for speed."""
    with full_precision(weights[0].device.type):
        return _norms(weights)


def _norms(weights: Sequence[Tensor]) -> list[Tensor]:
    alike: dict[int, list[int]] = {}
    for i, weight in enumerate(weights):
        alike.setdefault(len(weight), []).append(i)
    found: dict[int, Tensor] = {}
    for places in alike.values():
        matrices = [weights[i].flatten(1) for i in places]
        gram_GOO = torch.stack([matrix @ matrix.T for matrix in matrices])
        square_G = (_high_power(gram_GOO.detach()) * gram_GOO).sum((1, 2))
        found |= zip(places, square_G.clamp(min=SMALLEST).sqrt().unbind(), strict=True)
    return [found[i] for i in range(len(weights))]


@torch.no_grad()
def _high_power(gram_GOO: Tensor) -> Tensor:
    """The 64th power divided by its trace; for a zero matrix that of the unit matrix."""
    power = gram_GOO + SMALLEST * torch.eye(gram_GOO.shape[-1], dtype=gram_GOO.dtype, device=gram_GOO.device)
    for _ in range(3):
        power = power / power.norm(dim=(1, 2), keepdim=True)  # keeps powers from vanishing and from overflowing
        power = power @ power
        power = power @ power
    return power / power.diagonal(dim1=1, dim2=2).sum(1).view(-1, 1, 1)


class SpectralConv2d(nn.Conv2d):
    """A convolution with weights of spectral norm 1 (Miyato et al. 2018); the bias is not normalised.

    It has the parameters of ``nn.Conv2d``, with the same names.

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

    def forward(self, inputs: Tensor, norm: Tensor | None = None) -> Tensor:
        """As ``nn.Conv2d``; ``norm`` is the spectral norm, if it has been computed already."""
        norm = spectral_norm(self.weight) if norm is None else norm
        output: Tensor = self._conv_forward(inputs, self.weight / norm, self.bias)
        return output


def norms_of(module: nn.Module) -> Iterator[Tensor]:
    """The norms of all normalised convolutions of a module, in the order of its ``modules()``."""
    weights = [layer.weight for layer in module.modules() if isinstance(layer, SpectralConv2d)]
    return iter(spectral_norms(weights) if weights else [])


def run_with(layer: nn.Module, inputs: Tensor, norms: Iterator[Tensor]) -> Tensor:
    """A layer's output; a normalised convolution takes the next norm."""
    output: Tensor = layer(inputs, next(norms)) if isinstance(layer, SpectralConv2d) else layer(inputs)
    return output


def convolutions(spectral_norm: str | None, *, has_residual_blocks: bool) -> tuple[Convolution, Convolution]:
    """The class of the plain convolutions of an encoder, and the class of those in its residual blocks.

    Args:
        spectral_norm: The normalised convolutions: ``None``, ``"residual"`` (BTR's paper) or ``"all"``.
        has_residual_blocks: Whether the encoder has residual blocks.

    Examples:
        >>> [made.__name__ for made in convolutions("residual", has_residual_blocks=True)]
        ['Conv2d', 'SpectralConv2d']
    """
    if spectral_norm is None:
        return nn.Conv2d, nn.Conv2d
    if spectral_norm not in ("residual", "all"):
        raise ValueError(f"spectral_norm={spectral_norm!r}: must be None, 'residual' or 'all'")
    if spectral_norm == "all":
        return SpectralConv2d, SpectralConv2d
    if not has_residual_blocks:
        raise ValueError("spectral_norm='residual': this encoder has no residual blocks; give 'all' or None")
    return nn.Conv2d, SpectralConv2d
