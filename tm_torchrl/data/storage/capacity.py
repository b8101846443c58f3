"""A replay that grows by steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchrl.data import ReplayBuffer, Storage

from tm_torchrl.data.saving.buffer_settings import check_settings, settings_of
from tm_torchrl.data.storage.frame_store import FrameStorage
from tm_torchrl.data.storage.prioritized import TensorDictPrioritizedReplayBuffer

_ROWS_AT_ONCE = 4096


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
    """Copy transitions, oldest first, with their priorities, into an empty larger buffer, which goes on from there.

    Steps that an n-step writer still holds, and the state of the random generator, are copied too. Batches that the
    source sampled ahead are not: they stay with the source.

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
    num, room = len(source), target.storage.max_size
    if room < num:
        raise ValueError(f"target: room for {room} transitions; the source holds {num}")
    kinds = [settings_of(buffer) for buffer in (source, target)]
    for name in ("capacity", "prefetch"):
        for kind in kinds:
            del kind[name]
    check_settings(*kinds, what="the source")
    oldest = source.writer._cursor if num == source.storage.max_size else 0
    order = (torch.arange(num) + oldest) % max(num, 1)
    _copy_rows(source.storage, target.storage, order)
    target.writer._cursor = num % room
    target.writer._write_count = num
    if source.transform is not None and target.transform is not None:
        target.transform.load_state_dict(source.transform.state_dict())
    if isinstance(source, TensorDictPrioritizedReplayBuffer):
        _copy_priorities(source, target, order)
    if source._rng is not None:
        target.set_rng(torch.Generator(source._rng.device).set_state(source._rng.get_state()))


def _copy_rows(source: Storage, target: Storage, order: Tensor) -> None:
    if isinstance(source, FrameStorage):  # record by record, so that shared frames stay shared
        if len(order):
            state = source._state()
            target.load_state_dict({**state, "records": state["records"][order].to_dict()})
        return
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        target.set(torch.arange(start, start + len(rows)), source.get(rows))


def _copy_priorities(
    source: TensorDictPrioritizedReplayBuffer, target: TensorDictPrioritizedReplayBuffer, order: Tensor
) -> None:
    if not source._sync:
        source._catch_up_prioritized_sampler()
    state = source.prioritized_sampler.state_dict()
    tree = torch.zeros(target.storage.max_size, dtype=torch.float64)
    tree[: len(order)] = state["tree"][order]
    target.prioritized_sampler.load_state_dict({**state, "tree": tree})
    if not target._sync:
        target._prioritized_sampler_write_count = len(order)
