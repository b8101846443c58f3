"""One shard of a replay: what its process does. It draws no random numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from tm_torchrl.data.saving.replay_log import Appended, ReplayLog
from tm_torchrl.data.storage.prioritized_sampler import PrioritizedSampler
from tm_torchrl.data.storage.replay_buffer import make_replay_buffer

MARK = "mark"  # the file by which a shard knows that it sees the learner's folder


@dataclass(frozen=True)
class ShardState:
    """What the learner knows of a shard.

    Args:
        num: Stored transitions.
        total: Sum of their masses: ``(priority + eps)^alpha``, or 1 each without priorities.
        least: Their smallest mass.
        problem: Why transitions that were to be written are not there.
    """

    num: int = 0
    total: float = 0.0
    least: float = math.inf
    problem: str = ""


class ReplayShard:
    """Transitions that are found by their place in the running sum of masses.

    Args:
        capacity: Number of transitions.
        storage: ``"memory"``, ``"memmap"`` (files) or ``"frames"`` (each image once).
        alpha: Exponent of the priorities; ``None`` for none.

    Examples:
        >>> from tensordict import TensorDict
        >>> shard = ReplayShard(10, alpha=1.0)
        >>> shard.write(TensorDict({"x": torch.arange(2)}, [2]), priority=1.0).total
        2.0...
        >>> shard.update(torch.tensor([1]), torch.tensor([3.0])).total
        4.0...
        >>> shard.draw(torch.tensor([0.9, 1.1, 3.9]))["x"]
        tensor([0, 1, 1])
    """

    def __init__(self, capacity: int, *, storage: str = "memory", alpha: float | None = None) -> None:
        self.sampler = None if alpha is None else PrioritizedSampler(capacity, alpha, beta=0.0)
        self.buffer = make_replay_buffer(
            capacity=capacity,
            batch_size=1,
            sampler=self.sampler or "uniform",
            storage=storage,
        )
        self._log: ReplayLog | None = None

    def state(self) -> ShardState:
        """The present state."""
        num = len(self.buffer)
        if not num:
            return ShardState()
        total, least = (float(num), 1.0) if self.sampler is None else self.sampler.masses(num)
        return ShardState(num, total, least)

    def write(self, rows: TensorDictBase, *, priority: float) -> ShardState:
        """Store transitions, over the oldest ones if there is no room.

        Args:
            rows: Transitions ``[K]``.
            priority: Of each of them.
        """
        index = self.buffer.extend(rows)
        if self.sampler is not None:
            self.sampler.update_priority(index, priority)
        return self.state()

    def draw(self, mass: Tensor) -> TensorDictBase:
        """The transitions at which the running sum of masses passes some values; with their ``index`` and ``mass``.

        Args:
            mass: Values ``[B]`` from 0 to the total.
        """
        num = len(self.buffer)
        if self.sampler is None:
            index, found = mass.to(torch.int64).clamp_(max=num - 1), torch.ones_like(mass)
        else:
            index, found = self.sampler.find(mass, num)
        rows: TensorDictBase = self.buffer.storage.get(index)
        return rows.set("index", index).set("mass", found)

    def update(self, index: Tensor, priority: Tensor) -> ShardState:
        """Set priorities.

        Args:
            index: Of transitions that were drawn.
            priority: Of each of them.
        """
        assert self.sampler is not None
        self.sampler.update_priority(index, priority)
        return self.state()

    def spread(self, num: int) -> TensorDictBase:
        """Transitions from all over the shard."""
        rows: TensorDictBase = self.buffer.storage.get(torch.linspace(0, len(self.buffer) - 1, num).long())
        return rows

    def empty(self) -> None:
        """Forget everything."""
        self.buffer.empty()

    # ------------------------------------------------------------------ saving

    def save(self, folder: str, mark: str, facts: Mapping[str, Any], in_background: bool) -> Appended:
        """Save what is new; as ``ReplayLog.append``.

        Args:
            folder: On a drive that this process and the learner share.
            mark: What the learner has written there.
            facts: JSON values.
            in_background: Whether a thread waits for the disk.
        """
        return self._log_in(folder, mark).append(self.buffer, facts=facts, in_background=in_background)

    def restore(self, folder: str, mark: str) -> int:
        """The number of transitions that were read.

        Args:
            folder: Where ``save`` wrote.
            mark: What the learner has written there.
        """
        return self._log_in(folder, mark).restore(self.buffer)

    def wait(self) -> None:
        """Wait for a save in the background; raises its error."""
        if self._log is not None:
            self._log.wait()

    def _log_in(self, folder: str, mark: str) -> ReplayLog:
        try:
            is_shared = Path(folder, MARK).read_text(encoding="utf-8") == mark
        except OSError:
            is_shared = False
        if not is_shared:
            raise FileNotFoundError(f"its machine does not share the folder {folder} with the learner's")
        if self._log is None:
            self._log = ReplayLog(folder)
        return self._log
