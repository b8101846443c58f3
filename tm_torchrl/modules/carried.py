"""Keys that a policy hands from one step to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

from tm_torchrl.modules.cores.core import Core


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


def carried_values(tensordict: TensorDictBase, keys: Sequence[NestedKey]) -> TensorDictBase:
    """The values of carried keys at the next step: those that the policy wrote under "next", else its present ones.

    Args:
        tensordict: What the policy was given, after it has acted.
        keys: The carried keys.
    """
    found = tensordict.select(*keys, strict=False)
    after = tensordict.get("next", None)
    return found if after is None else found.update(after.select(*keys, strict=False))


def cleared(carried: TensorDictBase, mask: torch.Tensor | None) -> TensorDictBase:
    """Carried values with zeros where an episode begins: where the mask says so, or everywhere.

    Args:
        carried: Values ``[N, ...]``.
        mask: bool, one for each of N; ``None`` for everywhere.
    """

    def zeros_where_it_begins(value: torch.Tensor) -> torch.Tensor:
        if mask is None:
            return torch.zeros_like(value)
        return value.masked_fill(mask.reshape(mask.shape[:1] + (1,) * (value.ndim - 1)), 0)

    found: TensorDictBase = carried.apply(zeros_where_it_begins)
    return found


def memory_before(
    core: Core, tensordict: TensorDictBase, shape: torch.Size, *, key: NestedKey, device: torch.device
) -> Tensor:
    """The states ``[prod(B), S]`` of a core before a step of ``[*B]``; zeros if absent, or where an episode begins.

    Args:
        core: The core.
        tensordict: Has the states at ``key``, and perhaps ``is_init``.
        shape: B.
        key: The key of the states.
        device: Of zeros.
    """
    state = tensordict.get(key, None)
    if state is None:
        return torch.zeros(math.prod(shape), core.state_size, device=device)
    state = state.reshape(-1, core.state_size)
    is_init = tensordict.get("is_init", None)
    return state if is_init is None else state.masked_fill(is_init.reshape(-1, 1), 0.0)
