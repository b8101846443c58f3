"""Normalisation of the loss by the spread of its target."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tm_torchrl.modules.quantiles.fractions import midpoints
from tm_torchrl.objectives.functional import quantile_huber_loss


class SelfLossNormalizer(nn.Module):
    """Divides each sample's loss by the loss of its target against itself, as the Linesight agent does.

    A wide target distribution gives a large loss even to a perfect network. The self-loss is the square root of the
    quantile Huber loss of the target's samples, sorted, against each other. It is clamped from below at the typical
    self-loss divided by ``clamp_ratio``, and the result is scaled so that the typical loss keeps its size. The typical
    values are running means.

    Args:
        kappa: The error at which the self-loss turns from square to linear.
        clamp_ratio: The typical self-loss divided by the smallest divisor, at least 1.
        decay: The decay of the running means, in [0, 1).

    Examples:
        >>> normalizer = SelfLossNormalizer()
        >>> target = torch.tensor([[0.0, 1.0], [0.0, 100.0]])
        >>> loss = normalizer(torch.ones(2), target)
        >>> bool(loss[0] > loss[1])
        True
    """

    typical: Tensor
    typical_clamped: Tensor
    is_started: Tensor

    def __init__(self, *, kappa: float = 1.0, clamp_ratio: float = 4.0, decay: float = 0.99) -> None:
        super().__init__()
        if clamp_ratio < 1:
            raise ValueError(f"clamp_ratio={clamp_ratio}: must be at least 1")
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: must be in [0, 1)")
        self.kappa = kappa
        self.clamp_ratio = clamp_ratio
        self.decay = decay
        self.register_buffer("typical", torch.tensor(0.0))
        self.register_buffer("typical_clamped", torch.tensor(0.0))
        self.register_buffer("is_started", torch.tensor(False))

    def forward(self, loss_B: Tensor, target_BM: Tensor) -> Tensor:
        """The normalised loss ``[B]`` for targets ``[B, M]``; updates the running means in training mode."""
        with torch.no_grad():
            sorted_BM = target_BM.sort(-1).values
            fractions = midpoints(target_BM.shape[-1], device=target_BM.device).expand_as(target_BM)
            self_loss_B = quantile_huber_loss(
                sorted_BM, fractions.to(target_BM.dtype), sorted_BM, kappa=self.kappa
            ).sqrt()
            if self.training:
                self._follow(self.typical, self_loss_B)
            divisor_B = self_loss_B.clamp(min=self.typical / self.clamp_ratio)
            if self.training:
                self._follow(self.typical_clamped, divisor_B)
                self.is_started.fill_(True)
            # Where all targets are single points the divisor is 0, and so are the typical values.
            factor_B = torch.where(divisor_B > 0, self.typical_clamped / divisor_B, torch.ones_like(divisor_B))
        return loss_B * factor_B

    def _follow(self, typical: Tensor, values_B: Tensor) -> None:
        mean = values_B.mean()
        typical.copy_(torch.where(self.is_started, typical.lerp(mean, 1 - self.decay), mean))
