"""The maths of n-step sums over windows of consecutive steps.

Shapes: N lanes, S consecutive steps of each, n steps per window, M = S - n + 1 windows: one for each step that is
followed by n - 1 more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """Sums and counts over the steps of each window."""

    num_used: Tensor  # int64 [N, M]: steps before the window is cut, 1 to n
    sums: Tensor  # [N, M, n]: discounted reward of the first 1, 2, ... n steps; constant after the last used step
    steps_to_finish: Tensor  # int64 [N, M]: which step terminates the episode, counted from 1; n + 1 if none does


def sum_windows(
    reward: Tensor,
    terminated: Tensor,
    is_over: Tensor,
    is_greedy: Tensor | None = None,
    *,
    num_steps: int,
    gamma: float,
) -> Windows:
    """N-step sums (Sutton 1988) of every window.

    Args:
        reward: ``[N, S]``.
        terminated: bool ``[N, S]``, whether the episode ended by its own rules with this step.
        is_over: bool ``[N, S]``, whether the next step belongs to another episode or follows a gap.
        is_greedy: bool ``[N, S]``; cuts a window before its first action that is not greedy, except its own first one.
        num_steps: n.
        gamma: Discount of one step.

    Examples:
        >>> reward = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
        >>> ends = torch.tensor([[False, False, True, False]])
        >>> windows = sum_windows(reward, ends, ends, num_steps=2, gamma=0.5)
        >>> windows.sums
        tensor([[[1.0000, 1.5000],
                 [1.0000, 1.5000],
                 [1.0000, 1.0000]]])
        >>> windows.num_used, windows.steps_to_finish
        (tensor([[2, 2, 1]]), tensor([[3, 2, 1]]))
    """
    num_windows = max(reward.shape[1] - num_steps + 1, 0)
    is_same = is_used = torch.ones_like(is_over[:, :num_windows])
    total = torch.zeros_like(reward[:, :num_windows])
    num_used = torch.zeros_like(is_used, dtype=torch.int64)
    to_finish = torch.full_like(num_used, num_steps + 1)
    sums = []
    for i in range(num_steps):
        now = slice(i, i + num_windows)
        if i:
            before = slice(i - 1, i - 1 + num_windows)
            is_same = is_same & ~is_over[:, before]
            is_used = is_used & ~is_over[:, before]
            if is_greedy is not None:
                is_used = is_used & is_greedy[:, now]
        total = torch.where(is_used, total + gamma**i * reward[:, now], total)
        sums.append(total)
        num_used += is_used
        to_finish = torch.where(is_same & terminated[:, now], i + 1, to_finish)
    return Windows(num_used=num_used, sums=torch.stack(sums, dim=-1), steps_to_finish=to_finish)
