"""``RecordedEpochs``: what memories share that learn from records and store nothing that is driven."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer


class RecordedEpochs:
    """Counts the frames that are due, and goes through shuffled records epoch by epoch.

    Args:
        records: What the records are, ``"frames"`` or ``"pairs"``; the state has their number as ``num_frames`` or
            ``num_pairs``.
        source: Where they come from, for messages.
        num_batches: Batches in an epoch.
        names: The columns of what the loss writes into each batch at ``diagnostics``.
        seed: Seeds the order of the records.
    """

    def __init__(self, *, records: str, source: str, num_batches: int, names: Sequence[str], seed: int) -> None:
        self.records = records
        self.source = source
        self.num_batches = num_batches
        self.names = list(names)
        self.seed = seed
        self._num_due = 0
        self._epoch, self._position = 0, 0
        self._order: tuple[int, np.ndarray] | None = None  # of an epoch
        self._sums, self._num_seen = torch.zeros(len(self.names)), 0

    def __len__(self) -> int:
        """The number of records to learn from."""
        raise NotImplementedError

    def extend(self, steps: TensorDictBase) -> None:
        """Take a batch of steps, of which only the number counts."""
        self._num_due += steps.numel()
        self._sums, self._num_seen = torch.zeros_like(self._sums), 0

    def _next_place(self) -> tuple[np.ndarray, int]:
        """The order of the epoch ``[len(self)]`` and the number of the next batch in it."""
        if self._order is None or self._order[0] != self._epoch:
            self._order = self._epoch, np.random.default_rng([self.seed, self._epoch]).permutation(len(self))
        position = self._position
        self._position += 1
        if self._position == self.num_batches:
            self._epoch, self._position = self._epoch + 1, 0
        return self._order[1], position

    def seen(self, batch: TensorDictBase) -> None:
        """Add up what the loss wrote into a batch."""
        self._sums = self._sums.to(batch.device) + batch.get("diagnostics")[0]
        self._num_seen += 1

    def set_frames(self, frames: int) -> None:
        """Nothing follows the frames."""

    def contents(self) -> dict[str, ReplayBuffer]:
        """None: the records stay where they are."""
        return {}

    def metrics(self) -> dict[str, float]:
        """Epochs, and means over the last updates."""
        found = {"epoch": self._epoch + self._position / self.num_batches}
        if self._num_seen:
            found |= dict(zip(self.names, (self._sums / self._num_seen).tolist(), strict=True))
        return found

    def state_dict(self) -> dict[str, Any]:
        """The place in the present epoch, and sums for the log; the records are saved nowhere else."""
        return {
            f"num_{self.records}": len(self),
            "num_due": self._num_due,
            "epoch": self._epoch,
            "position": self._position,
            "sums": self._sums.clone(),
            "num_seen": self._num_seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state; raises ``ValueError`` if there are more or fewer records than there were."""
        before = state[f"num_{self.records}"]
        if before != len(self):
            raise ValueError(
                f"{self.source}: has {len(self)} {self.records} to learn from, but had {before}; a run goes on with "
                f"the {self.records} that it began with"
            )
        self._num_due, self._epoch, self._position = state["num_due"], state["epoch"], state["position"]
        self._sums, self._num_seen = state["sums"], state["num_seen"]
