"""States as tensors, numbers and strings only, which can be read without executing anything from the file."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from tm_torchrl.data.saving.atomic_files import DamagedFileError

_TENSORDICT, _BATCH_SIZE = "__tensordict__", "__batch_size__"


def to_plain(state: Any, *, name: str = "state") -> Any:
    """A state whose TensorDicts became dicts and whose tensors own just their own bytes.

    Raises a ``TypeError`` if the state holds other objects.

    Args:
        state: Nested dicts, lists and tuples.
        name: Name of the state, for error messages.

    Examples:
        >>> state = to_plain({"rows": TensorDict({"x": torch.arange(3)}, [3])[:2], "cursor": 2})
        >>> state
        {'rows': {'__tensordict__': {'x': tensor([0, 1])}, '__batch_size__': [2]}, 'cursor': 2}
        >>> from_plain(state)["rows"].batch_size
        torch.Size([2])
    """
    if isinstance(state, TensorDictBase):
        entries = {key: to_plain(value, name=f"{name}[{key!r}]") for key, value in state.items()}
        return {_TENSORDICT: entries, _BATCH_SIZE: list(state.batch_size)}
    if isinstance(state, torch.Tensor):
        tensor = state.detach().as_subclass(torch.Tensor)
        owns_its_bytes = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        return tensor if owns_its_bytes else tensor.clone(memory_format=torch.contiguous_format)
    if isinstance(state, Mapping):
        return {key: to_plain(value, name=f"{name}[{key!r}]") for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        parts = [to_plain(value, name=f"{name}[{i}]") for i, value in enumerate(state)]
        return parts if isinstance(state, list) else tuple(parts)
    if isinstance(state, np.generic):
        return state.item()
    if state is None or isinstance(state, (bool, int, float, str)):
        return state
    raise TypeError(
        f"{name} is a {type(state).__name__}: only tensors, TensorDicts, numbers and strings can be saved, because "
        "reading other objects would execute code from the file"
    )


def from_plain(state: Any) -> Any:
    """The state with its TensorDicts again."""
    if isinstance(state, dict):
        if _TENSORDICT in state:
            entries = {key: from_plain(value) for key, value in state[_TENSORDICT].items()}
            return TensorDict(entries, batch_size=state[_BATCH_SIZE])
        return {key: from_plain(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(from_plain(value) for value in state)
    return state


def state_to_bytes(state: Any, *, name: str = "state") -> memoryview:
    """The bytes of a file that ``load_state`` reads; raises as ``to_plain`` does."""
    plain = to_plain(state, name=name)
    file = io.BytesIO()  # so that errors of the disk come from writing these bytes, not from inside torch's writer
    torch.save(plain, file)
    return file.getbuffer()


def load_state(path: Path) -> Any:
    """The state in a file; nothing in the file is executed.

    Raises ``DamagedFileError`` for other objects than ``state_to_bytes`` writes.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise DamagedFileError(f"{path} is compressed, which torch.save does not do")  # may unpack to much
        return from_plain(torch.load(path, weights_only=True, map_location="cpu"))
    except pickle.UnpicklingError:  # whose message recommends to run what is in the file
        raise DamagedFileError(f"{path} holds objects that weights_only=True refuses; nothing in it was run") from None
    except (LookupError, TypeError, AttributeError, RecursionError) as problem:
        raise DamagedFileError(f"{path} does not hold a state ({type(problem).__name__}: {problem})") from problem
