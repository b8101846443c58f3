"""Reading values at actions, single or in blocks, categorical or one-hot.

Shapes: B batch, N fractions, S slots of an action block, A actions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def action_index(action: Tensor, values: Tensor, *, is_one_hot: bool) -> Tensor:
    """Indices ``[B]`` of actions, or ``[B, S]`` for the values ``[B, N, S, A]`` of blocks.

    Examples:
        >>> action_index(torch.tensor([[0, 1], [1, 0]]), torch.zeros(2, 8, 2), is_one_hot=True)
        tensor([1, 0])
    """
    shape = (values.shape[0], *values.shape[2:-1])
    if is_one_hot:
        return action.reshape(*shape, values.shape[-1]).to(torch.int64).argmax(-1)
    if action.is_floating_point():
        raise TypeError(f"action of dtype {action.dtype}: must be whole numbers, such as int64 indices of actions")
    if action.numel() != math.prod(shape):
        raise ValueError(
            f"action of shape {tuple(action.shape)}: must be {shape} for the network's values {tuple(values.shape)}; "
            "for one-hot actions give action_space='one_hot'"
        )
    return action.reshape(shape).to(torch.int64)


def values_of(values: Tensor, index: Tensor) -> Tensor:
    """Values ``[B, N, A]`` of actions ``[B]``: ``[B, N]``; for blocks the mean over slots.

    Examples:
        >>> values = torch.tensor([[[[1.0, 2.0], [30.0, 40.0]]]])  # one sample, one fraction, two slots, two actions
        >>> values_of(values, torch.tensor([[1, 0]]))
        tensor([[16.]])
    """
    index_B1 = index.unsqueeze(1).unsqueeze(-1)
    chosen = values.gather(-1, index_B1.expand(*values.shape[:-1], 1)).squeeze(-1)
    return chosen if chosen.ndim == 2 else chosen.mean(-1)
