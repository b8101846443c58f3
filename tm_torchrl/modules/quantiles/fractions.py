"""Sources of quantile fractions: sampled, fixed, or proposed by a network.

Shapes: B batch, N fractions, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tm_torchrl.modules.layers.arguments import require_count


def midpoints(num_fractions: int, *, device: torch.device | str | None = None) -> Tensor:
    """The midpoints of N equal parts of (0, 1), in order: ``[N]``.

    Examples:
        >>> midpoints(4)
        tensor([0.1250, 0.3750, 0.6250, 0.8750])
    """
    return (torch.arange(num_fractions, device=device, dtype=torch.float32) + 0.5) / num_fractions


class FractionSource(nn.Module):
    """Draws fractions for a batch, whatever the batch contains.

    Args:
        shared: Whether the whole batch shares one set of fractions, which a network embeds once, instead of one set
            for each sample. The set is returned expanded to ``[*B, N]``, with stride 0.
    """

    def __init__(self, *, shared: bool = False) -> None:
        super().__init__()
        self.shared = shared

    def forward(
        self, batch_shape: Sequence[int], num_fractions: int, *, device: torch.device | str | None = None
    ) -> Tensor:
        """Fractions ``[*batch_shape, N]`` inside (0, 1)."""
        require_count(num_fractions, argument="num_fractions")
        shape = () if self.shared else tuple(batch_shape)
        return self.draw(shape, num_fractions, device).expand(*batch_shape, num_fractions)

    def draw(self, shape: tuple[int, ...], num_fractions: int, device: torch.device | str | None) -> Tensor:
        """Fractions ``[*shape, N]``; subclasses define it."""
        raise TypeError(f"{type(self).__name__} must define draw(shape, num_fractions, device)")


class UniformFractions(FractionSource):
    """Independent uniform draws (Dabney et al. 2018, "Implicit Quantile Networks").

    Examples:
        >>> UniformFractions()((2, 3), 8).shape
        torch.Size([2, 3, 8])
    """

    def draw(self, shape: tuple[int, ...], num_fractions: int, device: torch.device | str | None) -> Tensor:
        """Uniform on [eps/2, 1 - eps/2], so that none is 0 or 1."""
        eps = torch.finfo(torch.float32).eps
        return torch.rand(*shape, num_fractions, device=device).mul_(1 - eps).add_(eps / 2)


class StratifiedFractions(FractionSource):
    """One draw in each of N/2 equal parts, each with its mirror image about 1/2.

    The first half is ``(i + U) / N`` for i < N/2, the second half 1 minus it: the mean is 1/2 exactly, and the
    average over the fractions has far less variance than with independent draws. The scheme of the Linesight agent.

    Examples:
        >>> fractions = StratifiedFractions()((5,), 8)
        >>> torch.allclose(fractions[:, :4] + fractions[:, 4:], torch.ones(5, 4))
        True
    """

    def draw(self, shape: tuple[int, ...], num_fractions: int, device: torch.device | str | None) -> Tensor:
        """The lower halves and their mirror images."""
        if num_fractions % 2:
            raise ValueError(f"num_fractions={num_fractions}: must be even, since fractions are drawn in pairs")
        eps = torch.finfo(torch.float32).eps
        half = num_fractions // 2
        offset = torch.rand(*shape, half, device=device)
        low = ((torch.arange(half, device=device) + offset) / num_fractions).clamp_(min=eps / 2)  # its mirror is not 1
        return torch.cat([low, 1 - low], -1)


class MidpointFractions(FractionSource):
    """The fixed fractions of QR-DQN (Dabney et al. 2018, "Distributional RL with Quantile Regression").

    Examples:
        >>> MidpointFractions()((1,), 2)
        tensor([[0.2500, 0.7500]])
    """

    def __init__(self) -> None:
        super().__init__(shared=True)

    def draw(self, shape: tuple[int, ...], num_fractions: int, device: torch.device | str | None) -> Tensor:
        """The same for every sample."""
        return midpoints(num_fractions, device=device)


class Proposal(NamedTuple):
    """Fractions, the edges between which they lie, and the entropy of the parts."""

    fractions: Tensor  # [B, N], midpoints between edges
    edges: Tensor  # [B, N + 1], from 0 to 1
    entropy: Tensor  # [B]


class FractionProposal(nn.Module):
    """Proposes the fractions of FQF from a state's features (Yang et al. 2019).

    The cumulative sum of a softmax over N parts gives the edges; the quantile function is evaluated at the midpoints
    between them. The caller detaches the features, so that the fraction loss trains this layer alone.

    Args:
        num_features: D.
        num_fractions: N.

    Examples:
        >>> proposal = FractionProposal(16, 8)(torch.zeros(2, 16))
        >>> proposal.edges.shape, bool((proposal.edges[:, 1:] > proposal.edges[:, :-1]).all())
        (torch.Size([2, 9]), True)
    """

    def __init__(self, num_features: int, num_fractions: int) -> None:
        super().__init__()
        if num_fractions < 2:
            raise ValueError(f"num_fractions={num_fractions}: must be at least 2; a single fraction cannot move")
        self.num_fractions = num_fractions
        self.logits = nn.Linear(num_features, num_fractions)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from nearly equal parts (gain 0.01, the authors' code)."""
        nn.init.xavier_uniform_(self.logits.weight, gain=0.01)
        nn.init.zeros_(self.logits.bias)

    def forward(self, features: Tensor) -> Proposal:
        """Edges, their midpoints and the entropy for features ``[*B, D]``."""
        log_parts = torch.log_softmax(self.logits(features).float(), -1)
        parts = log_parts.exp()
        inner = parts.cumsum(-1)[..., :-1]
        zeros, ones = torch.zeros_like(inner[..., :1]), torch.ones_like(inner[..., :1])
        edges = torch.cat([zeros, inner, ones], -1)
        return Proposal((edges[..., 1:] + edges[..., :-1]) / 2, edges, -(parts * log_parts).sum(-1))
