"""A storage in memory that reads rows without touching all the others."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import LazyTensorStorage


class RowStorage(LazyTensorStorage):
    """TorchRL's storage in memory, with samples of small transitions at half the cost.

    Until it is full, TorchRL's storage makes a view of every entry's filled part before it reads rows of it. This one
    reads the rows directly. Indices other than lists of row numbers are handled by TorchRL.

    As in TorchRL, a batch ``[N, T]`` is N rows of T steps; ``NStep`` or ``batch.reshape(-1)`` makes transitions of it.

    Args:
        max_size: Number of rows.

    Examples:
        >>> storage = RowStorage(10)
        >>> storage.set(range(3), TensorDict({"x": torch.arange(3)}, [3]))
        >>> storage.get(torch.tensor([2, 0]))["x"]
        tensor([2, 0])
    """

    saved_as = "LazyTensorStorage"  # the name in saved buffers, whose format is the same

    def get(self, index: Any) -> Any:
        """Rows of the storage."""
        return _rows(self._storage, index) if self._has_rows(index) else super().get(index)

    def _has_rows(self, index: Any) -> bool:
        if type(index) is not Tensor or index.dtype != torch.int64 or index.ndim != 1 or not len(index):
            return False
        if not index.is_cpu or self.ndim != 1 or not self.initialized or type(self._storage) is not TensorDict:
            return False
        lowest, highest = index.aminmax()
        return bool(lowest >= 0 and highest < len(self))


def _rows(entries: TensorDict, index: Tensor) -> TensorDict:
    found: dict[str, Any] = {}
    for key, value in entries.items():
        if type(value) is Tensor and value.is_cpu:
            found[key] = value.index_select(0, index)  # a third cheaper than value[index]
        else:
            found[key] = _rows(value, index) if type(value) is TensorDict else value[index]
    batch_size = torch.Size([len(index), *entries.batch_size[1:]])
    made: TensorDict = TensorDict._new_unsafe(found, batch_size=batch_size, device=entries.device)
    return made
