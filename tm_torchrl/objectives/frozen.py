"""Frozen parameters, which a target network shares with the online network."""

from __future__ import annotations

from typing import Any

from torch import nn


def share_frozen(loss: nn.Module, name: str) -> None:
    """Let the target network read the frozen parameters of the online network instead of copies of its own.

    Args:
        loss: A loss with a target network.
        name: The attribute with the online network's parameters.
    """
    modules: dict[str, Any] = loss._modules  # the attributes warn while there is no updater of the target network
    online, target = modules[name], modules[f"target_{name}"]
    for key, value in online.items(True, True):
        if isinstance(value, nn.Parameter) and not value.requires_grad:
            target.get(key).data = value.data
