"""A replay that grows by steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torchrl.data import ReplayBuffer


class Stage(NamedTuple):
    """A capacity and when it begins."""

    frames: int
    capacity: int
    learning_starts: int


class CapacitySchedule:
    """Capacity, and the size from which learning goes on, as steps over frames played.

    Args:
        stages: (frames, capacity, learning_starts), in order; the first begins at 0.

    Examples:
        >>> schedule = CapacitySchedule([(0, 50_000, 20_000), (5_000_000, 100_000, 75_000)])
        >>> schedule(4_999_999).capacity, schedule(5_000_000).learning_starts
        (50000, 75000)
    """

    def __init__(self, stages: Sequence[Stage | tuple[int, int, int]]) -> None:
        self.stages = [Stage(*stage) for stage in stages]
        if not self.stages or self.stages[0].frames != 0:
            raise ValueError(f"stages={stages}: the first stage must begin at frame 0")
        for stage in self.stages:
            if not 0 <= stage.learning_starts <= stage.capacity:
                raise ValueError(f"stages: {stage} can never hold enough to learn from")
        for before, after in zip(self.stages[:-1], self.stages[1:], strict=True):
            if after.frames <= before.frames or after.capacity < before.capacity:
                raise ValueError(f"stages: {after} must come later than {before} and be no smaller")

    def __call__(self, frames: int) -> Stage:
        """The stage at a number of frames."""
        return [stage for stage in self.stages if stage.frames <= frames][-1]


def move_contents(source: ReplayBuffer, target: ReplayBuffer) -> None:
    """Copy transitions, oldest first, with their priorities, into an empty larger buffer.

    Args:
        source: stays as it is.
        target: built alike with more capacity.

    Examples:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tm_torchrl.data import make_replay_buffer
        >>> small, large = (make_replay_buffer(capacity=n, batch_size=2) for n in (4, 8))
        >>> for i in range(3):
        ...     _ = small.extend(TensorDict({"x": torch.arange(2 * i, 2 * i + 2)}, [2]))
        >>> move_contents(small, large)
        >>> large[:]["x"]
        tensor([2, 3, 4, 5])
    """
    if len(target):
        raise ValueError(f"target: it holds {len(target)} transitions; an empty buffer is wanted")
    if target.storage.max_size < len(source):
        raise ValueError(f"target: room for {target.storage.max_size} transitions; the source holds {len(source)}")
    if not len(source):
        return
    oldest = source.writer._cursor if len(source) == source.storage.max_size else 0
    order = (torch.arange(len(source)) + oldest) % len(source)
    new = target.storage
    new.set(torch.arange(len(source)), source.storage.get(order))
    target.writer._cursor = len(source) % new.max_size
    target.writer._write_count = len(source)
    old_sampler, sampler = (getattr(b, "prioritized_sampler", None) for b in (source, target))
    if sampler is not None and old_sampler is not None:
        state = old_sampler.state_dict()
        tree = torch.zeros(new.max_size, dtype=torch.float64)
        tree[: len(source)] = state["tree"][order]
        sampler.load_state_dict({**state, "tree": tree})
        if not target._sync:
            target._prioritized_sampler_write_count = len(source)
