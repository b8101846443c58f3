"""Keys that a policy hands from one step to the next."""

from __future__ import annotations

from tensordict import NestedKey
from torch import nn


def carried_keys(policy: nn.Module) -> list[NestedKey]:
    """The ``carried_keys`` that the modules of a policy declare, such as a hidden state or a held action.

    Collectors, memories and saved runs carry whatever is declared.

    Args:
        policy: Any module.

    Examples:
        >>> layer = nn.Linear(1, 1)
        >>> layer.carried_keys = ["hidden"]
        >>> carried_keys(nn.Sequential(layer))
        ['hidden']
    """
    found = [key for module in policy.modules() for key in getattr(module, "carried_keys", ())]
    return list(dict.fromkeys(found))
