"""Two ways to compute the quantile Huber loss and its gradient: pair by pair, and from sorted targets.

Both compute the gradient in closed form together with the loss. A third way, of operations that autograd knows, is for
second derivatives and ``torch.func``. Shapes: B batch, N online values, M targets. With u = target - value and c = u
clamped to +-kappa, the Huber loss is c * (u - c / 2) and its derivative in the value is -c.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Measured on a CPU: both forms take equally long at 96 online values and targets a sample; few pairs fit caches.
NUM_VALUES_WORTH_SORTING, NUM_PAIRS_WORTH_SORTING = 96, 500_000


def sorted_is_faster(value_BN: Tensor, target_BM: Tensor) -> bool:
    """Whether sorting is faster. It needs float64 for its running sums, which MPS does not have."""
    num_values, num_targets = value_BN.shape[-1], target_BM.shape[-1]
    is_worth_it = min(num_values, num_targets) >= NUM_VALUES_WORTH_SORTING
    return is_worth_it and value_BN.numel() * num_targets >= NUM_PAIRS_WORTH_SORTING and value_BN.device.type != "mps"


def huber_by_autograd(value_BN: Tensor, fractions_BN: Tensor, target_BM: Tensor, kappa: float) -> Tensor:
    """The loss ``[B]`` from operations that autograd and ``torch.func`` know."""
    u_BNM, slope_BNM, weight_BNM = _slopes(value_BN, fractions_BN, target_BM, kappa)
    distance_BNM = slope_BNM * (u_BNM - slope_BNM * (kappa / 2))
    return (weight_BNM * distance_BNM).sum((-2, -1)) / target_BM.shape[-1]


def _slopes(value_BN: Tensor, fractions_BN: Tensor, target_BM: Tensor, kappa: float) -> tuple[Tensor, Tensor, Tensor]:
    """``[B, N, M]``: u, c / kappa, and the weight of each pair. Targets and fractions are constants."""
    u_BNM = target_BM.detach().unsqueeze(-2) - value_BN.unsqueeze(-1)
    slope_BNM = (u_BNM / kappa).clamp(-1, 1) if kappa > 0 else u_BNM.sign()
    return u_BNM, slope_BNM, (fractions_BN.detach().unsqueeze(-1) - (u_BNM < 0).to(u_BNM.dtype)).abs()


class _ClosedForm(torch.autograd.Function):
    """Multiplies with the gradient that was saved when the loss was computed."""

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None, None, None]:
        gradient_BN, value_BN, fractions_BN, target_BM = ctx.saved_tensors
        grad_B1 = grad_B.unsqueeze(-1)
        # Not 0 * nan: a masked sample may hold NaN.
        if not torch.is_grad_enabled():
            return torch.where(grad_B1 == 0, grad_B1, grad_B1 * gradient_BN), None, None, None
        # This pass is differentiated too, so the gradient must depend on the values.
        _, slope_BNM, weight_BNM = _slopes(value_BN, fractions_BN, target_BM, ctx.kappa)
        gradient_BN = -(weight_BNM * slope_BNM).mean(-1)
        is_broken_BN = (grad_B1 == 0) & ~gradient_BN.isfinite()
        return grad_B1 * torch.where(is_broken_BN, 0.0, gradient_BN), None, None, None


class PairwiseHuber(_ClosedForm):
    """The plain form over N * M pairs."""

    @staticmethod
    def forward(ctx: Any, value_BN: Tensor, fractions_BN: Tensor, target_BM: Tensor, kappa: float) -> Tensor:
        """Loss ``[B]``."""
        u_BNM = target_BM.unsqueeze(-2) - value_BN.unsqueeze(-1)
        fractions_BN1 = fractions_BN.unsqueeze(-1)
        slope_BNM = u_BNM.clamp(-kappa, kappa) if kappa > 0 else u_BNM.sign()
        slope_below_BNM = slope_BNM.clamp(max=0)  # of negative u, whose weight is 1 - fraction; else 0
        # Tensors are overwritten and renamed after their new contents, because allocating costs most here.
        distance_BNM = u_BNM.sub_(slope_BNM, alpha=0.5) if kappa > 0 else u_BNM
        gradient_BNM = slope_BNM.mul_(fractions_BN1).addcmul_(slope_below_BNM, 1 - 2 * fractions_BN1)
        loss_BNM = distance_BNM.mul_(gradient_BNM)
        scale = 1 / (target_BM.shape[-1] * (kappa or 1))
        ctx.kappa = kappa
        ctx.save_for_backward(gradient_BNM.sum(-1) * -scale, value_BN, fractions_BN, target_BM)
        return loss_BNM.sum((-2, -1)) * scale


class SortedHuber(_ClosedForm):
    """The same from sorted targets and running sums, in float64 because their differences lose digits."""

    @staticmethod
    def forward(ctx: Any, value_BN: Tensor, fractions_BN: Tensor, target_BM: Tensor, kappa: float) -> Tensor:
        """Loss ``[B]``."""
        num_values, num_targets = value_BN.shape[-1], target_BM.shape[-1]
        target = target_BM.sort(-1).values.double()
        middle = target.mean(-1, keepdim=True)
        target = target - middle
        v = value_BN.double() - middle
        fractions = fractions_BN.double()
        sums, squares = F.pad(target.cumsum(-1), (1, 0)), F.pad((target * target).cumsum(-1), (1, 0))
        bounds = torch.searchsorted(target, torch.cat([v - kappa, v, v + kappa], -1))
        if kappa == 0:  # a target that equals the value lies neither below nor above: no slope
            bounds[..., -num_values:] = torch.searchsorted(target, v, right=True)
        first_near, first_above, first_far = bounds.split(num_values, -1)  # type: ignore[no-untyped-call]
        sum_at = sums.gather(-1, bounds)
        sum_near, sum_above, sum_far = sum_at.split(num_values, -1)  # type: ignore[no-untyped-call]
        # Sums over the runs, as numbers of targets and of |u| beyond kappa ...
        far_below = first_near * v - sum_near
        far_above = (sums[..., -1:] - sum_far) - (num_targets - first_far) * v
        slope_below, slope_above = first_near.double(), (num_targets - first_far).double()
        loss_below = far_below - slope_below * (kappa / 2)
        loss_above = far_above - slope_above * (kappa / 2)
        # ... and of u and its square within kappa.
        if kappa > 0:
            square_near, square_above, square_far = squares.gather(-1, bounds).split(num_values, -1)  # type: ignore[no-untyped-call]
            num_below, num_above = first_above - first_near, first_far - first_above
            u_below, u_above = sum_above - sum_near - num_below * v, sum_far - sum_above - num_above * v
            half = 0.5 / kappa
            loss_below = loss_below + half * _square_deviation(square_above - square_near, u_below, num_below, v)
            loss_above = loss_above + half * _square_deviation(square_far - square_above, u_above, num_above, v)
            slope_below, slope_above = slope_below - u_below / kappa, slope_above + u_above / kappa
        scale = 1 / num_targets
        gradient = (1 - fractions) * slope_below - fractions * slope_above
        loss = (1 - fractions) * loss_below + fractions * loss_above
        ctx.kappa = kappa
        ctx.save_for_backward((gradient * scale).to(value_BN.dtype), value_BN, fractions_BN, target_BM)
        return (loss.sum(-1) * scale).to(value_BN.dtype)


def _square_deviation(square: Tensor, deviation: Tensor, count: Tensor, v: Tensor) -> Tensor:
    """Sum of (target - v)^2 from the sums of target^2 and of target - v: square - 2 v deviation - count v^2."""
    return square - 2 * v * deviation - count * v * v
