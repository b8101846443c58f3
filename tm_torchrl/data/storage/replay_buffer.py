"""One call that builds a replay buffer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tensordict import NestedKey
from torchrl.data import LazyMemmapStorage, Storage, TensorDictReplayBuffer
from torchrl.envs.transforms import Compose, Transform

from tm_torchrl.data.steps.mini_race import MiniRace
from tm_torchrl.data.steps.n_step import NStep
from tm_torchrl.data.storage.frame_store import FrameStorage
from tm_torchrl.data.storage.prioritized import TensorDictPrioritizedReplayBuffer, without_generator
from tm_torchrl.data.storage.row_storage import RowStorage


class SharedReplayBuffer(TensorDictReplayBuffer):
    """TorchRL's buffer, which writers in other processes can be given although it has a generator.

    Examples:
        >>> type(make_replay_buffer(capacity=100, batch_size=4, shared=True, seed=0)).__name__
        'SharedReplayBuffer'
    """

    def __getstate__(self) -> dict[str, Any]:
        return without_generator(super().__getstate__())


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
    prefetch: int | None = None,
    pin_memory: bool = False,
    seed: int | None = None,
    shared: bool = False,
) -> TensorDictReplayBuffer | TensorDictPrioritizedReplayBuffer:
    """A buffer of transitions, uniform or prioritised.

    Args:
        capacity: number of transitions.
        batch_size: of samples.
        prioritized: draw by priority. With ``shared=True`` other processes write while this one owns the priorities.
        alpha: 0 draws uniformly, 1 proportionally to priority; the default is Schaul et al.'s (2016).
        beta: of the importance weights, with the same source.
        eps: added to priorities.
        priority_key: written by losses.
        storage: ``"memory"``, ``"memmap"`` (files, for buffers larger than memory), ``"frames"`` (each frame once: half
            the memory of images; n-step data need ``NStep(..., frame_ids=True)``), or a TorchRL storage.
        scratch_dir: of the files of ``"memmap"``, and of the frames of ``"frames"``.
        n_step: makes transitions of the collector's steps as they come in.
        mini_race: draws a horizon for each sample as it goes out; needs ``n_step``.
        transforms: further ones, behind these.
        prefetch: number of batches sampled ahead by threads. They see older priorities, and how old depends on timing:
            leave it out where a run has to repeat bit for bit.
        pin_memory: of samples, for CUDA.
        seed: of the sampling; ``None`` for torch's global generator.
        shared: between processes.

    Examples:
        >>> from tensordict import TensorDict
        >>> rb = make_replay_buffer(capacity=100, batch_size=4, prioritized=True, seed=0)
        >>> _ = rb.extend(TensorDict({"x": torch.arange(10)}, [10]))
        >>> rb.sample()["x"].shape
        torch.Size([4])
    """
    for name, count in (("capacity", capacity), ("batch_size", batch_size)):
        if count < 1:
            raise ValueError(f"{name}={count}: at least 1 is needed")
    if mini_race is not None and n_step is None:
        raise ValueError("mini_race: it chooses among n-step sums; give n_step=NStep(...) too")
    built = _storage(storage, capacity, scratch_dir=scratch_dir, shared=shared)
    if isinstance(built, FrameStorage) and n_step is not None and not n_step.frame_ids:
        raise ValueError("n_step: frames are kept once only if they have numbers; use NStep(..., frame_ids=True)")
    chain = [transform for transform in (n_step, mini_race, *transforms) if transform is not None]
    transform = Compose(*chain) if chain else None
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    if prioritized:
        return TensorDictPrioritizedReplayBuffer(
            alpha=alpha,
            beta=beta,
            eps=eps,
            priority_key=priority_key,
            storage=built,
            sync=not shared,
            batch_size=batch_size,
            transform=transform,
            prefetch=prefetch,
            pin_memory=pin_memory,
            generator=generator,
            shared=shared,
        )
    return (SharedReplayBuffer if shared else TensorDictReplayBuffer)(
        storage=built,
        batch_size=batch_size,
        transform=transform,
        prefetch=prefetch,
        pin_memory=pin_memory,
        generator=generator,
        shared=shared,
    )


def _storage(kind: str | Storage, capacity: int, *, scratch_dir: str | Path | None, shared: bool) -> Storage:
    if isinstance(kind, Storage):
        if kind.max_size != capacity:
            raise ValueError(f"capacity={capacity}: the storage has room for {kind.max_size}")
        return kind
    if scratch_dir is not None and kind == "memory":
        raise ValueError("scratch_dir: nothing is written with storage='memory'; use 'memmap' or 'frames'")
    if kind == "memory":
        return RowStorage(capacity)
    if kind == "memmap":
        return LazyMemmapStorage(capacity, scratch_dir=scratch_dir)
    if kind == "frames":
        return FrameStorage(capacity, scratch_dir=scratch_dir, shared=shared)
    raise ValueError(f"storage={kind!r}: one of 'memory', 'memmap', 'frames' or a TorchRL storage wanted")
