"""A replay buffer whose capacity grows in stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchrl.data import ReplayBuffer, Storage

from tm_torchrl.data.storage.buffer_settings import check_settings, settings_of
from tm_torchrl.data.storage.frame_store import FrameStorage
from tm_torchrl.data.storage.prioritized_sampler import PrioritizedSampler

_ROWS_AT_ONCE = 4096


class Stage(NamedTuple):
    """A capacity and the number of played frames from which it applies."""

    frames: int
    capacity: int
    learning_starts: int


class CapacitySchedule:
    """Capacity, and the number of stored transitions from which learning starts, in stages by played frames.

    Args:
        stages: Tuples (frames, capacity, learning_starts), in order; the first begins at frame 0.

    Examples:
        >>> schedule = CapacitySchedule([(0, 50_000, 20_000), (5_000_000, 100_000, 75_000)])
        >>> schedule(4_999_999).capacity, schedule(5_000_000).learning_starts
        (50000, 75000)
    """

    def __init__(self, stages: Sequence[Stage | tuple[int, int, int]]) -> None:
        self.stages = [Stage(*stage) for stage in stages]
        if not self.stages or self.stages[0].frames != 0:
            raise ValueError(f"stages={stages}: the first must begin at frame 0")
        for stage in self.stages:
            if not 0 <= stage.learning_starts <= stage.capacity:
                raise ValueError(f"stages: {stage}: learning_starts must lie between 0 and capacity")
        for before, after in zip(self.stages[:-1], self.stages[1:], strict=True):
            if after.frames <= before.frames or after.capacity < before.capacity:
                raise ValueError(f"stages: {after} must begin later than {before} and must not be smaller")

    def __call__(self, frames: int) -> Stage:
        """The stage at a number of frames."""
        return [stage for stage in self.stages if stage.frames <= frames][-1]


def move_contents(source: ReplayBuffer, target: ReplayBuffer) -> None:
    """Copy transitions, oldest first, with their priorities, into an empty larger buffer that continues in its place.

    Pending steps of an n-step writer and the state of the random generator are copied too; prefetched batches are not.

    Args:
        source: The buffer to copy from, which is left unchanged.
        target: A buffer with the same settings and more capacity.

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
        raise ValueError(f"target: it holds {len(target)} transitions; must be empty")
    num, room = len(source), target.storage.max_size
    if room < num:
        raise ValueError(f"target: its capacity is {room}; must be at least {num}, the size of the source")
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
    if isinstance(source.sampler, PrioritizedSampler):
        _copy_priorities(source.sampler, target.sampler, order, room=room)
    if source._rng is not None:
        target.set_rng(torch.Generator(source._rng.device).set_state(source._rng.get_state()))


def _copy_rows(source: Storage, target: Storage, order: Tensor) -> None:
    if isinstance(source, FrameStorage):  # records are copied one by one, so that shared frames stay shared
        if len(order):
            state = source._state()
            target.load_state_dict({**state, "records": state["records"][order].to_dict()})
        return
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        target.set(torch.arange(start, start + len(rows)), source.get(rows))


def _copy_priorities(source: PrioritizedSampler, target: PrioritizedSampler, order: Tensor, *, room: int) -> None:
    state = source.state_dict()
    tree = torch.zeros(room, dtype=torch.float64)
    tree[: len(order)] = state["tree"][order]
    target.load_state_dict({**state, "tree": tree})
