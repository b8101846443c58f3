"""The cosine embedding of quantile fractions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def unexpanded(fractions_BN: Tensor) -> Tensor:
    """A set of fractions that the whole batch shares (stride 0), once: ``[1, N]``; others as they are."""
    is_shared = fractions_BN.ndim == 2 and fractions_BN.shape[0] > 1 and fractions_BN.stride(0) == 0
    return fractions_BN[:1] if is_shared else fractions_BN


class CosineEmbedding(nn.Module):
    r"""cos(pi * i * fraction) for E frequencies i (Dabney et al. 2018, "Implicit Quantile Networks", equation 4).

    Args:
        num_cosines: E.
        first_frequency: 1 gives i = 1..E, as Linesight has it. The paper's and Dopamine's 0 gives i = 0..E-1, of which
            the first is a constant.

    Examples:
        >>> embedded = CosineEmbedding(3)(torch.tensor([0.5]))  # cos of 90, 180 and 270 degrees
        >>> torch.allclose(embedded, torch.tensor([[0.0, -1.0, 0.0]]), atol=1e-6)
        True
    """

    frequencies: Tensor

    def __init__(self, num_cosines: int = 64, *, first_frequency: int = 1) -> None:
        super().__init__()
        if num_cosines < 1:
            raise ValueError(f"num_cosines={num_cosines}: at least one is needed")
        if first_frequency not in (0, 1):
            raise ValueError(f"first_frequency={first_frequency}: give 1 (Linesight's) or 0 (the paper's)")
        self.num_cosines = num_cosines
        self.first_frequency = first_frequency
        # Not in the state dict: it follows from the arguments.
        self.register_buffer("frequencies", self._frequencies(), persistent=False)

    def forward(self, fractions: Tensor) -> Tensor:
        """``[..., N]`` to ``[..., N, E]``."""
        return torch.cos(fractions.unsqueeze(-1) * self.frequencies)

    def _frequencies(self) -> Tensor:
        return math.pi * torch.arange(self.first_frequency, self.first_frequency + self.num_cosines)
