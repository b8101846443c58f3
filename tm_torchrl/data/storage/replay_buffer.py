"""One call that builds a replay buffer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from tensordict import NestedKey
from torchrl.data import LazyMemmapStorage, Storage, TensorDictReplayBuffer
from torchrl.envs.transforms import Compose, Transform

from tm_torchrl.data.steps.mini_race import MiniRace
from tm_torchrl.data.steps.n_step import NStep
from tm_torchrl.data.storage.frame_store import FrameStorage
from tm_torchrl.data.storage.prioritized import TensorDictPrioritizedReplayBuffer
from tm_torchrl.data.storage.row_storage import RowStorage


def make_replay_buffer(
    *,
    capacity: int,
    batch_size: int,
    prioritized: bool = False,
    alpha: float = 0.6,
    beta: float = 0.4,
    eps: float = 1e-8,
    priority_key: NestedKey = "td_error",
    storage: Literal["memory", "memmap", "frames"] | Storage = "memory",
    scratch_dir: str | Path | None = None,
    n_step: NStep | None = None,
    mini_race: MiniRace | None = None,
    transforms: Sequence[Transform] = (),
    seed: int | None = None,
) -> TensorDictReplayBuffer | TensorDictPrioritizedReplayBuffer:
    """A buffer of transitions, uniform or prioritised.

    Args:
        capacity: Number of transitions.
        batch_size: Number of transitions in a sample.
        prioritized: Whether transitions are sampled by priority.
        alpha: 0 samples uniformly, 1 in proportion to priority; the default is Schaul et al.'s (2016).
        beta: Exponent of the importance weights, with a default of the same source.
        eps: Added to priorities.
        priority_key: Key at which losses write priorities.
        storage: ``"memory"``, ``"memmap"`` (files, for buffers larger than memory), ``"frames"`` (each frame once: half
            the memory of images; n-step data need ``NStep(..., frame_ids=True)``), or a TorchRL storage.
        scratch_dir: Folder for the files of ``"memmap"`` and the frames of ``"frames"``.
        n_step: Turns the collector's steps into transitions when they are written.
        mini_race: Draws a horizon for each sampled transition; needs ``n_step``.
        transforms: Further transforms, applied after these two.
        seed: Seeds the sampler; ``None`` uses torch's global generator.

    Examples:
        >>> from tensordict import TensorDict
        >>> rb = make_replay_buffer(capacity=100, batch_size=4, prioritized=True, seed=0)
        >>> _ = rb.extend(TensorDict({"x": torch.arange(10)}, [10]))
        >>> rb.sample()["x"].shape
        torch.Size([4])
    """
    for name, count in (("capacity", capacity), ("batch_size", batch_size)):
        if count < 1:
            raise ValueError(f"{name}={count}: must be at least 1")
    if mini_race is not None and n_step is None:
        raise ValueError("mini_race: needs n-step sums; give n_step=NStep(...) too")
    built = _storage(storage, capacity, scratch_dir=scratch_dir)
    if isinstance(built, FrameStorage) and n_step is not None and not n_step.frame_ids:
        raise ValueError("n_step: storage='frames' needs numbered frames; use NStep(..., frame_ids=True)")
    chain = [transform for transform in (n_step, mini_race, *transforms) if transform is not None]
    transform = Compose(*chain) if chain else None
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    if not prioritized:
        return TensorDictReplayBuffer(storage=built, batch_size=batch_size, transform=transform, generator=generator)
    return TensorDictPrioritizedReplayBuffer(
        alpha=alpha,
        beta=beta,
        eps=eps,
        priority_key=priority_key,
        storage=built,
        batch_size=batch_size,
        transform=transform,
        generator=generator,
    )


def _storage(kind: str | Storage, capacity: int, *, scratch_dir: str | Path | None) -> Storage:
    if isinstance(kind, Storage):
        if kind.max_size != capacity:
            raise ValueError(f"capacity={capacity}: the storage has max_size={kind.max_size}")
        return kind
    if scratch_dir is not None and kind == "memory":
        raise ValueError("scratch_dir: storage='memory' writes no files; use 'memmap' or 'frames'")
    if kind == "memory":
        return RowStorage(capacity)
    if kind == "memmap":
        return LazyMemmapStorage(capacity, scratch_dir=scratch_dir)
    if kind == "frames":
        return FrameStorage(capacity, scratch_dir=scratch_dir)
    raise ValueError(f"storage={kind!r}: must be 'memory', 'memmap', 'frames' or a TorchRL storage")
