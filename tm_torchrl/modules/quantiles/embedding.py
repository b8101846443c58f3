"""The cosine embedding of quantile fractions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tm_torchrl.modules.layers.arguments import require_count


def unexpanded(fractions_BN: Tensor) -> Tensor:
    """Fractions that the whole batch shares (stride 0) as ``[1, N]``; other fractions unchanged."""
    is_shared = fractions_BN.ndim == 2 and fractions_BN.shape[0] > 1 and fractions_BN.stride(0) == 0
    return fractions_BN[:1] if is_shared else fractions_BN


class CosineEmbedding(nn.Module):
    r"""cos(pi * i * fraction) for E frequencies i (Dabney et al. 2018, "Implicit Quantile Networks", equation 4).

    Args:
        num_cosines: E.
        first_frequency: 1 gives i = 1..E, as in Linesight; 0 gives i = 0..E-1, as in the paper and Dopamine, where the
            first cosine is a constant.

    Examples:
        >>> embedded = CosineEmbedding(3)(torch.tensor([0.5]))  # cos of 90, 180 and 270 degrees
        >>> torch.allclose(embedded, torch.tensor([[0.0, -1.0, 0.0]]), atol=1e-6)
        True
    """

    frequencies: Tensor

    def __init__(self, num_cosines: int = 64, *, first_frequency: int = 1) -> None:
        super().__init__()
        require_count(num_cosines, argument="num_cosines")
        if first_frequency not in (0, 1):
            raise ValueError(f"first_frequency={first_frequency}: must be 1 (Linesight) or 0 (the paper)")
        self.num_cosines = num_cosines
        self.first_frequency = first_frequency
        frequencies = math.pi * torch.arange(first_frequency, first_frequency + num_cosines)
        self.register_buffer("frequencies", frequencies, persistent=False)  # they follow from the arguments

    def forward(self, fractions: Tensor) -> Tensor:
        """``[..., N]`` to ``[..., N, E]``."""
        return torch.cos(fractions.unsqueeze(-1) * self.frequencies)
