"""Risk-sensitive acting: distortions of the fractions over which values are averaged.

A distortion maps a uniform fraction to the fraction at which the quantile function is evaluated (Dabney et al. 2018,
"Implicit Quantile Networks", section 3.1). A network with fixed or proposed fractions has values at these alone, so
there the inverse of the distortion gives their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RiskDistortion(nn.Module):
    """A non-decreasing map of [0, 1] onto itself or a part of it."""

    def forward(self, fractions: Tensor) -> Tensor:
        """The fractions at which the quantile function is evaluated, for uniform fractions."""
        raise TypeError(f"{type(self).__name__} must define forward(fractions)")

    def inverse(self, levels: Tensor) -> Tensor:
        """The uniform fractions that are mapped to these levels; by bisection unless overridden."""
        low, high = torch.zeros_like(levels), torch.ones_like(levels)
        for _ in range(30):
            middle = (low + high) / 2
            is_below = self(middle) < levels
            low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
        return torch.where(
            levels >= 1, torch.ones_like(levels), torch.where(levels <= 0, torch.zeros_like(levels), low)
        )

    def weights(self, edges: Tensor) -> Tensor:
        """The weights of the parts between edges ``[..., N + 1]``: ``[..., N]``, with sum 1."""
        return self.inverse(edges).diff(dim=-1)


class CVaR(RiskDistortion):
    """The mean of the worst ``eta`` of outcomes; 1 is neutral.

    Args:
        eta: The share of the outcomes, in (0, 1].

    Examples:
        >>> CVaR(0.25)(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.1250, 0.2500])
        >>> CVaR(0.25).weights(torch.tensor([0.0, 0.5, 1.0]))
        tensor([1., 0.])
    """

    def __init__(self, eta: float) -> None:
        super().__init__()
        if not 0 < eta <= 1:
            raise ValueError(f"eta={eta}: must be in (0, 1], the share of the worst outcomes")
        self.eta = eta

    def forward(self, fractions: Tensor) -> Tensor:
        """Fractions of the worst part."""
        return self.eta * fractions

    def inverse(self, levels: Tensor) -> Tensor:
        """1 from ``eta`` on."""
        return (levels / self.eta).clamp(max=1)


class Wang(RiskDistortion):
    """Wang (2000): a shift of normal quantiles; risk-averse for negative ``eta``, risk-seeking for positive.

    Args:
        eta: The shift; 0 is neutral.

    Examples:
        >>> Wang(-0.75)(torch.tensor([0.5]))  # the normal distribution at -0.75
        tensor([0.2266])
    """

    def __init__(self, eta: float) -> None:
        super().__init__()
        self.eta = eta

    def forward(self, fractions: Tensor) -> Tensor:
        """Fractions shifted."""
        return torch.special.ndtr(torch.special.ndtri(fractions) + self.eta)

    def inverse(self, levels: Tensor) -> Tensor:
        """Shifted back."""
        return torch.special.ndtr(torch.special.ndtri(levels) - self.eta)


class CPW(RiskDistortion):
    """Cumulative probability weighting (Tversky and Kahneman 1992): overweights rare outcomes of both kinds.

    Args:
        eta: 0.71 matches people (Wu and Gonzalez 1996); 1 is neutral; below 0.28 it is no longer monotone.

    Examples:
        >>> CPW(0.71)(torch.tensor([0.1, 0.5]))
        tensor([0.1656, 0.4606])
    """

    def __init__(self, eta: float = 0.71) -> None:
        super().__init__()
        if not 0.28 <= eta <= 1:
            raise ValueError(f"eta={eta}: must be in [0.28, 1]; below, the weighting is not monotone")
        self.eta = eta

    def forward(self, fractions: Tensor) -> Tensor:
        """Fractions weighted."""
        power = fractions**self.eta
        return power / (power + (1 - fractions) ** self.eta) ** (1 / self.eta)


class Power(RiskDistortion):
    """The power formula: risk-averse for negative ``eta``, risk-seeking for positive.

    Args:
        eta: 0 is neutral.

    Examples:
        >>> Power(-2.0)(torch.tensor([0.5])), Power(2.0)(torch.tensor([0.5]))
        (tensor([0.2063]), tensor([0.7937]))
    """

    def __init__(self, eta: float) -> None:
        super().__init__()
        self.eta = eta
        self.exponent = 1 / (1 + abs(eta))

    def forward(self, fractions: Tensor) -> Tensor:
        """Fractions to a power."""
        return fractions**self.exponent if self.eta >= 0 else 1 - (1 - fractions) ** self.exponent

    def inverse(self, levels: Tensor) -> Tensor:
        """The inverse power."""
        power = 1 / self.exponent
        return levels**power if self.eta >= 0 else 1 - (1 - levels) ** power
