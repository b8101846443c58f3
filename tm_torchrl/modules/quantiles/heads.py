"""Heads: from a state's features and fractions to quantile values; implicit, fixed and non-crossing.

Shapes: B batch, N fractions, D features, S slots, A actions. Values are ``[B, N, A]``, ``[B, N, S, A]`` for blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_torchrl.modules.quantiles.conditioning import FiLM, Hadamard
from tm_torchrl.modules.quantiles.decoder import Decoder
from tm_torchrl.modules.quantiles.embedding import CosineEmbedding, unexpanded
from tm_torchrl.modules.quantiles.fractions import midpoints


class ImplicitHead(nn.Module):
    """Values at any fractions, which are embedded, combined with the features and decoded (IQN, FQF).

    Args:
        embedding: Embeds fractions.
        conditioning: Combines features ``[B, 1, D]`` with embedded fractions ``[B, N, E]``.
        decoder: A decoder of D features, without ``num_outputs``.

    Examples:
        >>> head = ImplicitHead(CosineEmbedding(8), Hadamard(8, 16), Decoder(16, 3))
        >>> head(torch.zeros(2, 16), torch.rand(2, 5)).shape
        torch.Size([2, 5, 3])
    """

    takes_fractions = True

    def __init__(self, embedding: CosineEmbedding, conditioning: Hadamard | FiLM | nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.embedding = embedding
        self.conditioning = conditioning
        self.decoder = decoder

    def forward(self, features_BD: Tensor, fractions_BN: Tensor) -> Tensor:
        """Quantile values ``[B, N, ..., A]``."""
        embedding_BNE = self.embedding(unexpanded(fractions_BN))
        return self.decoder(self.conditioning(features_BD.unsqueeze(1), embedding_BNE))


class FixedHead(nn.Module):
    """One output for each of N fixed fractions (QR-DQN), the midpoints of N equal parts.

    Args:
        decoder: A decoder with ``num_outputs`` = N.

    Examples:
        >>> head = FixedHead(Decoder(16, 3, num_outputs=8))
        >>> head(torch.zeros(2, 16), head.fractions.expand(2, 8)).shape
        torch.Size([2, 8, 3])
    """

    takes_fractions = False
    fractions: Tensor

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.num_fractions = decoder.output_shape[0]
        self.register_buffer("fractions", midpoints(self.num_fractions), persistent=False)

    def forward(self, features_BD: Tensor, fractions_BN: Tensor) -> Tensor:
        """Quantile values ``[B, N, ..., A]``; ``fractions_BN`` must be the head's own."""
        if fractions_BN.shape[-1] != self.num_fractions:
            raise ValueError(
                f"fractions: {fractions_BN.shape[-1]} given; must be the head's {self.num_fractions} fixed ones"
            )
        return self.decoder(features_BD)


class MonotoneHead(nn.Module):
    """Quantiles that cannot cross: a mean and non-negative increments between knots.

    The decoder gives, for each action, one location and one increment (softplus, never negative) for each of the
    K + 1 parts between the knots 0, the K midpoints, and 1. Their running sum, interpolated linearly and shifted to
    mean 0, is the quantile function's shape; the location is its mean. For any weights the function never decreases
    with the fraction, in floating point too. Evaluated at its own midpoints it is a non-crossing QR-DQN (the idea of
    Zhou et al. 2020 and of the NQ-Networks: non-negative activations). At sampled fractions it is a non-crossing IQN
    whose network runs once for a state, however many fractions there are.

    Args:
        decoder: A decoder with ``num_outputs`` = K + 2, so at least 3.

    Examples:
        >>> head = MonotoneHead(Decoder(16, 3, num_outputs=10))
        >>> values = head(torch.randn(2, 16), torch.rand(2, 99).sort().values)
        >>> bool((values[:, 1:] >= values[:, :-1]).all())
        True
    """

    takes_fractions = True
    fractions: Tensor
    knots: Tensor

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        num_outputs = decoder.output_shape[0]
        if len(decoder.output_shape) < 2 or num_outputs < 3:
            raise ValueError(f"decoder: its outputs are {decoder.output_shape}; give it num_outputs=3 or more")
        self.num_fractions = num_outputs - 2
        fractions = midpoints(self.num_fractions)
        self.register_buffer("fractions", fractions, persistent=False)
        knots = torch.cat([torch.zeros(1), fractions, torch.ones(1)])
        self.register_buffer("knots", knots, persistent=False)

    def forward(self, features_BD: Tensor, fractions_BN: Tensor) -> Tensor:
        """Quantile values ``[B, N, ..., A]``."""
        raw = self.decoder(features_BD).float()
        location, increments = raw[:, :1], F.softplus(raw[:, 1:]) / self.num_fractions
        # cummax: a parallel sum may decrease by a rounding error where an increment is nearly 0.
        heights = torch.cat([torch.zeros_like(location), increments.cumsum(1).cummax(1).values], 1)
        widths = self.knots.diff().view(-1, *(1,) * (raw.ndim - 2))
        heights = heights - ((heights[:, 1:] + heights[:, :-1]) / 2 * widths).sum(1, keepdim=True)
        return location + self._interpolate(heights, fractions_BN)

    def _interpolate(self, heights: Tensor, fractions_BN: Tensor) -> Tensor:
        fractions_BN = fractions_BN.contiguous()
        part_BN = torch.searchsorted(self.knots, fractions_BN, right=True).sub_(1).clamp_(0, self.num_fractions)
        left = self.knots[part_BN]
        weight = ((fractions_BN - left) / (self.knots[part_BN + 1] - left)).clamp(0, 1)
        trailing = (1,) * (heights.ndim - 2)
        index = part_BN.view(*part_BN.shape, *trailing).expand(-1, -1, *heights.shape[2:])
        low, high = heights.gather(1, index), heights.gather(1, index + 1)
        return torch.minimum(low + weight.view(*weight.shape, *trailing) * (high - low), high)
