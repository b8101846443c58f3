"""``RecordedPairs``: a memory of the pairs of a file, which are learnt from without driving.

Shapes: P pairs, T steps of the longest segment of a minibatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tensordict import NestedKey, TensorDict, TensorDictBase

from tm_torchrl.data.demonstrations.pair_file import PairFile, Segment
from tm_torchrl.data.demonstrations.recorded_epochs import RecordedEpochs


class RecordedPairs(RecordedEpochs):
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
        super().__init__(
            records="pairs",
            source=f"data={file.path}",
            num_batches=max(1, round(len(file.pairs) / minibatch_size)),
            names=diagnostics,
            seed=seed,
        )
        self.file = file
        self.kept_keys = list(kept_keys)
        self.device = torch.device(device)

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.file.pairs)

    def batches(self) -> Iterator[TensorDictBase]:
        """The minibatches ``[P]`` that are due."""
        while self._num_due > 0:
            order, position = self._next_place()
            batch = self.batch_of(np.array_split(order, self.num_batches)[position])
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
