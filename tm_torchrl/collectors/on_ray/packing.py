"""Tensors as arrays of bytes, which Ray moves between processes and machines without copying them into a pickle."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

Key = TypeVar("Key", bound=Hashable)
Packed: TypeAlias = "dict[Key, tuple[str, tuple[int, ...], np.ndarray]]"


def packed(tensors: Iterable[tuple[Key, Tensor]]) -> Packed[Key]:
    """Each tensor as the name of its type, its shape, and its bytes; on the CPU no byte is copied.

    Args:
        tensors: Pairs of a key and a tensor of any type, such as the items of a state dict.
    """
    found = {}
    for key, tensor in tensors:
        values = tensor.detach().cpu().contiguous().reshape(-1)
        found[key] = (str(values.dtype).removeprefix("torch."), tuple(tensor.shape), values.view(torch.uint8).numpy())
    return found


def unpacked(arrays: Packed[Key]) -> dict[Key, Tensor]:
    """The tensors, in memory of their own.

    Args:
        arrays: As ``packed`` returns them.

    Examples:
        >>> unpacked(packed([("x", torch.ones(2, dtype=torch.bfloat16))]))
        {'x': tensor([1., 1.], dtype=torch.bfloat16)}
    """
    found = {}
    for key, (name, shape, values) in arrays.items():
        found[key] = torch.empty(shape, dtype=getattr(torch, name))
        np.copyto(found[key].reshape(-1).view(torch.uint8).numpy(), values)
    return found


def packed_batch(batch: TensorDictBase) -> Packed[tuple[str, ...]]:
    """The leaves of a batch of tensors, by the path of their keys.

    Args:
        batch: Holds tensors only.
    """
    leaves = batch.items(include_nested=True, leaves_only=True)
    return packed((key if isinstance(key, tuple) else (key,), value) for key, value in leaves)


def unpacked_batch(arrays: Packed[tuple[str, ...]], *, num_lanes: int, num_steps: int) -> TensorDict:
    """The batch ``[N, T]``.

    Args:
        arrays: As ``packed_batch`` returns them.
        num_lanes: N.
        num_steps: T.
    """
    batch = TensorDict({}, [num_lanes, num_steps])
    for key, value in unpacked(arrays).items():
        batch.set(key, value)
    return batch
