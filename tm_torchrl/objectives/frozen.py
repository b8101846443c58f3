"""Frozen parameters, which a target network shares with the online network."""

from __future__ import annotations

from tensordict import TensorDictParams
from torch import nn


def share_frozen(online: TensorDictParams, target: TensorDictParams) -> None:
    """Let the target network read the frozen parameters of the online network instead of copies of its own.

    Args:
        online: The parameters of the online network; frozen ones have no gradient.
        target: Those of the target network.
    """
    for key, value in online.items(True, True):
        if isinstance(value, nn.Parameter) and not value.requires_grad:
            target.get(key).data = value.data
