"""The protocol of a memory: steps in, batches to learn from out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer

from tm_torchrl.data.sharded.saving import SavedShard


class Memory(Protocol):
    """Keeps what was collected and hands out the batches that are due."""

    def extend(self, steps: TensorDictBase) -> Any:
        """Take a collected batch ``[N, T]``."""
        ...

    def batches(self) -> Iterator[TensorDictBase]:
        """The batches to learn from before the next steps are collected; none while too little is stored."""
        ...

    def seen(self, batch: TensorDictBase) -> None:
        """Called after the update with a batch, into which the loss may have written priorities."""
        ...

    def set_frames(self, frames: int) -> None:
        """Called with the number of frames played, for what grows with it."""
        ...

    def contents(self) -> Mapping[str, ReplayBuffer | SavedShard]:
        """The buffers whose contents are saved apart from the checkpoint, by name; may be empty."""
        ...

    def metrics(self) -> dict[str, float]:
        """Numbers for the log, such as ``replay_size``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything but ``contents()``, as plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        ...
