"""One call that builds a replay buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torchrl.data import LazyMemmapStorage, Storage, TensorDictReplayBuffer
from torchrl.data.replay_buffers.sample_units import SampleUnit
from torchrl.data.replay_buffers.samplers import RandomSampler, Sampler
from torchrl.envs.transforms import Compose, Transform

from tm_torchrl.data.storage.frame_store import FrameStorage
from tm_torchrl.data.storage.prioritized_sampler import PrioritizedSampler
from tm_torchrl.data.storage.row_storage import RowStorage


def make_replay_buffer(
    *,
    capacity: int,
    batch_size: int,
    sampler: Literal["uniform", "prioritized"] | Sampler = "uniform",
    sample_unit: SampleUnit | None = None,
    storage: Literal["memory", "memmap", "frames"] | Storage = "memory",
    transforms: Sequence[Transform] = (),
    seed: int | None = None,
) -> TensorDictReplayBuffer:
    """TorchRL's ``TensorDictReplayBuffer`` with parts by name.

    Rows are single transitions; ``NStep(n, ...)`` makes them, also with n = 1, from a collector's batches ``[N, T]``.
    For sequences, let it mark where they end, with ``end_key="end"``, and give TorchRL's
    ``sample_unit=Sequence(80, burn_in=40, done_key="end")``: it gathers a sequence around each drawn transition, the
    first after the burn-in, to which priorities belong. TorchRL's ``SliceSampler(slice_len=80, end_key="end")`` works
    too, but with ``storage="frames"`` it copies all images for each sample.

    Args:
        capacity: Number of transitions.
        batch_size: Number of transitions in a sample; of sequences if there is a ``sample_unit``.
        sampler: ``"uniform"``, ``"prioritized"`` (with the exponents of Schaul et al. 2016), or a sampler, such as
            ``PrioritizedSampler(capacity, alpha=0.5, beta=0.4)`` of this package.
        sample_unit: What is gathered around a sampled transition.
        storage: ``"memory"``, ``"memmap"`` (files, for buffers larger than memory), ``"frames"`` (each frame once: half
            the memory of images; n-step data need ``NStep(..., frame_ids=True)``), or a TorchRL storage.
        transforms: Change what is written, such as ``NStep``, or what is sampled, such as ``MiniRace``.
        seed: Seeds the sampler; ``None`` uses torch's global generator.

    Examples:
        >>> from tensordict import TensorDict
        >>> rb = make_replay_buffer(capacity=100, batch_size=4, sampler="prioritized", seed=0)
        >>> _ = rb.extend(TensorDict({"x": torch.arange(10)}, [10]))
        >>> rb.sample()["x"].shape
        torch.Size([4])
    """
    for name, count in (("capacity", capacity), ("batch_size", batch_size)):
        if count < 1:
            raise ValueError(f"{name}={count}: must be at least 1")
    chosen = _sampler(sampler, capacity)
    return TensorDictReplayBuffer(
        storage=_storage(storage, capacity),
        sampler=chosen,
        sample_unit=sample_unit,
        batch_size=batch_size,
        transform=Compose(*transforms) if transforms else None,
        priority_key=getattr(chosen, "priority_key", "td_error"),
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )


def _sampler(kind: str | Sampler, capacity: int) -> Sampler:
    if isinstance(kind, Sampler):
        return kind
    if kind == "uniform":
        return RandomSampler()
    if kind == "prioritized":
        return PrioritizedSampler(capacity, alpha=0.6, beta=0.4)
    raise ValueError(f"sampler={kind!r}: must be 'uniform', 'prioritized' or a TorchRL sampler")


def _storage(kind: str | Storage, capacity: int) -> Storage:
    if isinstance(kind, Storage):
        if kind.max_size != capacity:
            raise ValueError(f"capacity={capacity}: the storage has max_size={kind.max_size}")
        return kind
    if kind == "memory":
        return RowStorage(capacity)
    if kind == "memmap":
        return LazyMemmapStorage(capacity)
    if kind == "frames":
        return FrameStorage(capacity)
    raise ValueError(f"storage={kind!r}: must be 'memory', 'memmap', 'frames' or a TorchRL storage")
