"""``SequenceWriter``: cuts the steps of lanes into overlapping sequences of records.

Shapes: N lanes (cars), T steps of a batch, L records of a sequence, R sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from tm_torchrl.data.steps.n_step import TRAJECTORY, select_rows

Key = str | tuple[str, ...]


class SequenceWriter:
    """Turns batches of steps into sequences in which every step is learnt from once.

    Each lane is one line of records: a step with the observation before it, and after the last step of an episode its
    last observation, as a record without an action (``is_final``). So a value can bootstrap from the record that
    follows, also where an episode was truncated, and every observation is stored once. The line is cut wherever the
    next sequence is complete; episodes may begin (``is_init``) and end inside, and no sequence is padded. Sequences
    overlap, so that each has ``num_before`` records before those to learn from and ``num_after`` behind them. Only the
    first ``num_before`` records of a lane are never learnt from.

    Of a sequence are stored ``keys`` of observations, ``action``, ``reward``, ``terminated``, ``is_over`` (an episode
    or a gap ends with this step), ``is_final``, ``is_init``, ``is_greedy`` if the batch has it, all ``[R, L, ...]``;
    and of ``state_keys`` the values of the first record, ``[R, ...]``.

    Args:
        length: Records to learn from.
        num_before: Records before them.
        num_after: Records behind them.
        keys: Keys of observations.
        state_keys: Keys of states that the policy carries.

    Examples:
        >>> steps = TensorDict({"observation": torch.arange(4.0).view(1, 4, 1), "action": torch.zeros(1, 4).long(),
        ...     "next": {"observation": torch.arange(1.0, 5.0).view(1, 4, 1), "reward": torch.ones(1, 4, 1),
        ...         "terminated": torch.tensor([0, 1, 0, 0]).bool().view(1, 4, 1),
        ...         "done": torch.tensor([0, 1, 0, 0]).bool().view(1, 4, 1)}}, [1, 4])
        >>> rows = SequenceWriter(2, num_after=1, keys=["observation"]).sequences(steps)
        >>> rows["observation"].squeeze(-1)  # the 2 in the middle is the last observation, and not acted upon
        tensor([[0., 1., 2.],
                [2., 2., 3.]])
    """

    def __init__(
        self,
        length: int,
        *,
        num_before: int = 0,
        num_after: int = 1,
        keys: Sequence[Key],
        state_keys: Sequence[Key] = (),
    ) -> None:
        self.length = length
        self.num_records = num_before + length + num_after
        self.keys = tuple(keys)
        self.state_keys = tuple(state_keys)
        self._pending: list[TensorDictBase] = []  # of each lane, at most num_records - 1 records
        self._trajectory: Tensor | None = None  # [N], of the last step
        self._is_done = torch.ones(0, dtype=torch.bool)  # [N], whether the last step ended an episode

    def sequences(self, batch: TensorDictBase) -> TensorDictBase | None:
        """The sequences that a batch ``[N, T]`` completes, by lane, then by time; ``None`` if there are none."""
        if batch.ndim != 2:
            raise ValueError(f"batch: its shape is {list(batch.shape)}; must be [N, T]")
        if self._pending and len(self._pending) != batch.shape[0]:
            raise ValueError(f"batch: has {batch.shape[0]} lanes, earlier batches had {len(self._pending)}")
        if not batch.numel():
            return None
        lines = self._lines(batch)
        found = []
        for i, line in enumerate(lines):
            if self._pending:
                line = torch.cat([self._pending[i], line])
            start = 0
            while len(line) - start >= self.num_records:
                found.append(line[start : start + self.num_records])
                start += self.length
            lines[i] = line[start:].clone() if start else line
        self._pending = lines
        if not found:
            return None
        stacked: TensorDictBase = TensorDict.stack(found)
        rows = stacked.exclude(*self.state_keys)
        rows.batch_size = [len(found)]
        return rows.update(stacked.select(*self.state_keys)[:, 0])

    def _lines(self, batch: TensorDictBase) -> list[TensorDictBase]:
        """The records of each lane."""
        shape = batch.shape
        done, terminated, reward = (batch["next", key].reshape(shape) for key in ("done", "terminated", "reward"))
        is_over = done | self._gaps(batch, done)
        before = torch.cat([self._is_done.reshape(-1, 1), is_over[:, :-1]], 1)
        records = batch.select("action", *self.keys, *self.state_keys)
        records = TensorDict(dict(records.items()), batch_size=shape)
        records["reward"], records["terminated"], records["is_over"] = reward, terminated, is_over
        records["is_init"], records["is_final"] = before, torch.zeros_like(is_over)
        if "is_greedy" in batch:
            records["is_greedy"] = batch["is_greedy"].reshape(shape)
        self._is_done = is_over[:, -1].clone()
        counts = 1 + is_over.flatten().to(torch.int64)
        index = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        flat = select_rows(records.flatten(0, 1), index)
        self._write_final(flat, batch, is_over, index)
        lengths = counts.reshape(shape).sum(1).tolist()
        return [line.clone() for line in flat.split(lengths)]

    def _write_final(self, flat: TensorDictBase, batch: TensorDictBase, is_over: Tensor, index: Tensor) -> None:
        """Make final records of the second ones of steps that end an episode."""
        if not bool(is_over.any()):
            return
        is_second = torch.zeros_like(index, dtype=torch.bool)
        is_second[1:] = index[1:] == index[:-1]
        ends = index[is_second]
        after = batch.get("next").flatten(0, 1)
        for key in self.keys:
            flat.get(key)[is_second] = after.get(key)[ends]
        flat["is_final"][is_second] = True
        for key in ("reward", "terminated", "is_over", "is_init"):
            flat[key][is_second] = 0

    def _gaps(self, batch: TensorDictBase, done: Tensor) -> Tensor:
        """Where a lane does not go on although its episode has not ended; gives up pending records at a gap."""
        gaps = torch.zeros_like(done)
        if not len(self._is_done):
            self._is_done = torch.ones_like(done[:, 0])
        if TRAJECTORY not in batch.keys(True):
            return gaps
        trajectory = batch[TRAJECTORY].reshape(batch.shape)
        gaps[:, :-1] = (trajectory[:, 1:] != trajectory[:, :-1]) & ~done[:, :-1]
        if self._trajectory is not None:
            is_gap = (self._trajectory != trajectory[:, 0]) & ~self._is_done
            for i in is_gap.nonzero().squeeze(1).tolist():
                self._pending[i] = self._pending[i][:0]
            self._is_done = self._is_done | is_gap
        self._trajectory = trajectory[:, -1].clone()
        return gaps

    def state_dict(self) -> dict[str, Any]:
        """Pending records as plain tensors."""
        return {
            "pending": [line.clone().to_dict() for line in self._pending],
            "trajectory": None if self._trajectory is None else self._trajectory.clone(),
            "is_done": self._is_done.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._pending = [TensorDict(line, batch_size=line["reward"].shape) for line in state["pending"]]
        self._trajectory, self._is_done = state["trajectory"], state["is_done"]
