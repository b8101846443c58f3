"""The maths of the quantile family, as functions of tensors.

Shapes: B batch, N online fractions, M target fractions, S slots of an action block, A actions; ``...`` is nothing, or
the slots.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tm_torchrl.objectives.huber import PairwiseHuber, SortedHuber, huber_by_autograd, sorted_is_faster


def quantile_huber_loss(
    value_BN: Tensor, fractions_BN: Tensor, target_BM: Tensor, *, kappa: float = 1.0, form: str = "auto"
) -> Tensor:
    r"""Quantile Huber loss of each sample (Dabney et al. 2018, "Implicit Quantile Networks", equation 3).

    With u = target_i - value_j: ``|fraction_j - 1{u < 0}| * Huber_kappa(u) / kappa``, summed over the online values j
    and averaged over the targets i: Dopamine's and rlax's scale. kappa 0 is the pinball loss. Targets and fractions
    are constants: no gradient reaches them.

    The cost is O((N + M) log M), not N * M: with sorted targets each online value meets four runs of them (further
    below than kappa, below, above, further above), and sums over a run are differences of running sums. Small
    problems are computed pair by pair, which is faster there.

    Args:
        value_BN: Online quantile values.
        fractions_BN: The fractions of the online values.
        target_BM: Samples of the target distribution, of equal weight.
        kappa: The error at which the loss turns from square to linear.
        form: ``"pairs"``, ``"sorted"``, or ``"auto"`` for the faster one.

    Returns:
        ``[B]``, in float32 or float64.

    Examples:
        >>> value, fractions = torch.tensor([[0.0]]), torch.tensor([[0.25]])
        >>> quantile_huber_loss(value, fractions, torch.tensor([[2.0, -2.0]]))  # (0.25 * 1.5 + 0.75 * 1.5) / 2
        tensor([0.7500])
    """
    if kappa < 0:
        raise ValueError(f"kappa={kappa}: must not be negative; 0 is the pinball loss")
    if value_BN.shape != fractions_BN.shape or target_BM.shape[:-1] != value_BN.shape[:-1]:
        raise ValueError(
            f"value {tuple(value_BN.shape)}, fractions {tuple(fractions_BN.shape)}, target {tuple(target_BM.shape)}: "
            "must be [B, N], [B, N] and [B, M]"
        )
    value_BN, fractions_BN, target_BM = _in_one_precision(value_BN, fractions_BN, target_BM)
    if form not in ("auto", "pairs", "sorted"):
        raise ValueError(f"form={form!r}: must be 'auto', 'pairs' or 'sorted'")
    if torch._C._are_functorch_transforms_active():
        return huber_by_autograd(value_BN, fractions_BN, target_BM, float(kappa))
    is_sorted = form == "sorted" or (form == "auto" and sorted_is_faster(value_BN, target_BM))
    loss: Tensor = (SortedHuber if is_sorted else PairwiseHuber).apply(  # type: ignore[no-untyped-call]
        value_BN, fractions_BN, target_BM, float(kappa)
    )
    return loss


def log_policy(mean_value: Tensor, temperature: float | Tensor) -> Tensor:
    """Logarithm of the softmax policy over actions (the last dimension), for mean values.

    Examples:
        >>> log_policy(torch.tensor([0.0, 0.0]), 0.03).exp()
        tensor([0.5000, 0.5000])
    """
    return torch.log_softmax(mean_value.float() / temperature, -1)


def soft_value(value_BNA: Tensor, log_policy_BA: Tensor, temperature: float | Tensor) -> Tensor:
    """Entropy-regularised value of each quantile: the policy's mean of ``value - temperature * log policy``.

    Munchausen RL (Vieillard et al. 2020), equation 1's second part. ``[B, N, ..., A]`` and ``[B, ..., A]`` to
    ``[B, N, ...]``.

    Examples:
        >>> value = torch.tensor([[[1.0, 3.0]]])
        >>> soft_value(value, torch.tensor([[0.5, 0.5]]).log(), 1.0)  # 2 + log 2
        tensor([[2.6931]])
    """
    log_policy_B1A = log_policy_BA.unsqueeze(1)
    return (log_policy_B1A.exp() * (value_BNA.float() - temperature * log_policy_B1A)).sum(-1)


def munchausen_bonus(
    log_policy_of_action: Tensor,
    *,
    alpha: float | Tensor = 0.9,
    temperature: float | Tensor = 0.03,
    clip: float | Tensor = -1.0,
    clip_on: Literal["scaled", "log_policy", "bonus"] = "scaled",
) -> Tensor:
    """The term that Munchausen adds to the reward: alpha * temperature * log policy, clipped from below.

    Args:
        log_policy_of_action: The log-policy of the action taken; any shape.
        alpha: The weight of the term.
        temperature: The temperature of the policy.
        clip: The lower bound, negative or 0.
        clip_on: The clipped quantity: ``"scaled"`` is temperature * log policy (Vieillard et al. 2020),
            ``"log_policy"`` the log-policy itself, ``"bonus"`` the whole term. The last two occur in TrackMania agents.

    Examples:
        >>> munchausen_bonus(torch.tensor([-10.0, -100.0]))  # 0.9 * 0.03 * -10 and 0.9 * -1
        tensor([-0.2700, -0.9000])
    """
    if clip_on == "scaled":
        return alpha * _clipped(temperature * log_policy_of_action, clip)
    if clip_on == "log_policy":
        return alpha * temperature * _clipped(log_policy_of_action, clip)
    if clip_on == "bonus":
        return _clipped(alpha * temperature * log_policy_of_action, clip)
    raise ValueError(f"clip_on={clip_on!r}: must be 'scaled', 'log_policy' or 'bonus'")


def fraction_loss(edges_BE: Tensor, value_BN: Tensor, edge_value_BI: Tensor) -> Tensor:
    """A loss whose gradient in the edges is that of the 1-Wasserstein distance (Yang et al. 2019, FQF, equation 5).

    The distance is that between a quantile function F and its staircase, whose steps between two edges have the height
    F(midpoint). Its derivative in an inner edge is ``|F(edge) - F(midpoint before)| - |F(edge) - F(midpoint after)|``,
    which is ``2 F(edge) - F(before) - F(after)`` where quantiles do not cross.

    Args:
        edges_BE: N + 1 edges from 0 to 1; they get the gradient.
        value_BN: F at the midpoints.
        edge_value_BI: F at the N - 1 inner edges.

    Returns:
        ``[B]``.

    Examples:
        >>> edges = torch.tensor([[0.0, 0.5, 1.0]], requires_grad=True)
        >>> value, edge_value = torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0]])
        >>> fraction_loss(edges, value, edge_value).sum().backward()
        >>> edges.grad  # |2 - 1| - |2 - 5|
        tensor([[ 0., -2.,  0.]])
    """
    value_BN, edge_value_BI = value_BN.detach().float(), edge_value_BI.detach().float()
    gradient_BI = (edge_value_BI - value_BN[:, :-1]).abs() - (edge_value_BI - value_BN[:, 1:]).abs()
    return (gradient_BI * edges_BE[:, 1:-1]).sum(-1)


def _in_one_precision(*tensors: Tensor) -> list[Tensor]:
    is_double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return [tensor.to(torch.float64 if is_double else torch.float32) for tensor in tensors]


def _clipped(values: Tensor, lowest: float | Tensor) -> Tensor:
    return torch.maximum(values, torch.as_tensor(lowest, dtype=values.dtype, device=values.device)).clamp(max=0)
