"""``RecordedPairs``: a memory of the pairs of a file, which are learnt from without driving.

Shapes: P pairs, T steps of the longest segment of a minibatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torchrl.data import ReplayBuffer

from tm_torchrl.data.demonstrations.pair_file import PairFile, Segment


class RecordedPairs:
    """Shuffled minibatches of pairs, as ``Pairs`` makes them of what is driven.

    Each frame that the source counts pays for one step to learn from. In an epoch each pair comes once. What counts in
    a segment is what was played, also where its driver chose something else.

    Args:
        file: The pairs.
        minibatch_size: P, as near as equal minibatches allow.
        kept_keys: Keys that the network reads: ``"observation"``, ``"pixels"``.
        diagnostics: The columns of what the loss writes into each minibatch.
        device: Device of the minibatches.
        seed: Seeds the order of the pairs.
    """

    def __init__(
        self,
        file: PairFile,
        *,
        minibatch_size: int,
        kept_keys: Sequence[NestedKey] = ("observation",),
        diagnostics: Sequence[str] = ("kl",),
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        if minibatch_size < 1:
            raise ValueError(f"minibatch_size={minibatch_size}: must be at least 1")
        self.file = file
        self.num_minibatches = max(1, round(len(file.pairs) / minibatch_size))  # in an epoch
        self.kept_keys = list(kept_keys)
        self.diagnostics = list(diagnostics)
        self.device = torch.device(device)
        self.seed = seed
        self._num_due = 0
        self._epoch, self._position = 0, 0
        self._sums, self._num_seen = torch.zeros(len(self.diagnostics)), 0

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.file.pairs)

    def extend(self, steps: TensorDictBase) -> None:
        """Take a batch of steps, of which only the number counts."""
        self._num_due += steps.numel()
        self._sums, self._num_seen = torch.zeros_like(self._sums), 0

    def batches(self) -> Iterator[TensorDictBase]:
        """The minibatches ``[P]`` that are due."""
        while self._num_due > 0:
            order = np.random.default_rng([self.seed, self._epoch]).permutation(len(self))
            pairs = np.array_split(order, self.num_minibatches)[self._position]
            self._position += 1
            if self._position == self.num_minibatches:
                self._epoch, self._position = self._epoch + 1, 0
            batch = self.batch_of(pairs)
            self._num_due -= int(batch["mask"].sum())
            yield batch

    def batch_of(self, pairs: np.ndarray) -> TensorDictBase:
        """What a loss reads of some pairs: ``steps`` ``[P, 2, T]``, the preferred segment first, and ``mask``.

        Args:
            pairs: Numbers of pairs, ``[P]``.
        """
        segments = [segment for number in pairs for segment in self.file.pairs[number]]
        lengths = torch.tensor([segment.steps for segment in segments]).view(-1, 2)
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)
        steps = TensorDict({key: self._padded(str(key), segments, mask) for key in self.kept_keys}, mask.shape)
        steps["action"] = self._padded("action", segments, mask).long()
        return TensorDict({"steps": steps, "mask": mask}, [len(pairs)]).to(self.device)

    def _padded(self, name: str, segments: Sequence[Segment], mask: torch.Tensor) -> torch.Tensor:
        """An array's values of the segments' frames ``[P, 2, T, ...]``; zeros behind their ends."""
        rows = [self.file.folders[each.folder].rows(name, self.file.frames_of(each)) for each in segments]
        values = torch.from_numpy(np.concatenate(rows))
        return values.new_zeros(*mask.shape, *values.shape[1:]).masked_scatter_(
            mask.view(*mask.shape, *(1,) * (values.ndim - 1)), values
        )

    def seen(self, batch: TensorDictBase) -> None:
        """Add up what the loss wrote into a minibatch."""
        self._sums = self._sums.to(batch.device) + batch.get("diagnostics")[0]
        self._num_seen += 1

    def set_frames(self, frames: int) -> None:
        """Nothing follows the frames."""

    def contents(self) -> dict[str, ReplayBuffer]:
        """None: the pairs stay where they are."""
        return {}

    def metrics(self) -> dict[str, float]:
        """Epochs, and means over the last updates."""
        found = {"epoch": self._epoch + self._position / self.num_minibatches}
        if self._num_seen:
            found |= dict(zip(self.diagnostics, (self._sums / self._num_seen).tolist(), strict=True))
        return found

    def state_dict(self) -> dict[str, Any]:
        """The place in the present epoch, and sums for the log; the pairs are saved nowhere else."""
        return {
            "num_pairs": len(self),
            "num_due": self._num_due,
            "epoch": self._epoch,
            "position": self._position,
            "sums": self._sums.clone(),
            "num_seen": self._num_seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state; raises ``ValueError`` if there are more or fewer pairs than there were."""
        if state["num_pairs"] != len(self):
            raise ValueError(
                f"data={self.file.path}: has {len(self)} pairs, but had {state['num_pairs']}; a run goes on with the "
                "pairs that it began with"
            )
        self._num_due, self._epoch, self._position = state["num_due"], state["epoch"], state["position"]
        self._sums, self._num_seen = state["sums"], state["num_seen"]
