"""Prioritised replay that works on every torch."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.context import get_spawning_popen
from typing import Any, Literal

import torch
from tensordict import NestedKey
from torchrl.data import RandomSampler, Storage
from torchrl.data import TensorDictPrioritizedReplayBuffer as _TorchRLPrioritizedReplayBuffer
from torchrl.data.replay_buffers.sample_units import SampleUnit
from torchrl.envs.transforms import Transform

from tm_torchrl.data.storage.prioritized_sampler import PrioritizedSampler


class TensorDictPrioritizedReplayBuffer(_TorchRLPrioritizedReplayBuffer):
    """TorchRL's class of this name, for every torch, with the same arguments.

    TorchRL's prioritised buffers need compiled trees, which do not load unless its wheel was compiled for the torch
    that is installed; it shows only when a buffer is built. Here a vectorised tree takes their place. ``rb.tree`` says
    which is in use. Storages have one dimension, and priorities live on the CPU.

    Args:
        alpha: 0 draws uniformly, 1 proportionally to priority.
        beta: of the importance weights; ``rb.beta = 0.7`` changes it, and so does TorchRL's
            ``LinearScheduler(rb.prioritized_sampler, "beta", ...)``.
        priority_key: read by ``update_tensordict_priority``.
        eps: added to priorities.
        storage: of the transitions.
        sample_unit: what is gathered around an item that was drawn; TorchRL's ``Sequence``, for instance.
        sampler_device: ``None`` or the CPU.
        sync: ``False`` when other processes write: the learner's process owns the priorities.
        collate_fn: as TorchRL's.
        pin_memory: of samples.
        prefetch: number of batches sampled ahead.
        transform: of the buffer.
        reduction: of priorities that have several numbers.
        batch_size: of samples.
        dim_extend: as TorchRL's.
        generator: that draws; ``None`` for torch's global one.
        shared: between processes.
        compilable: as TorchRL's.
        transport: as TorchRL's.
        transport_options: as TorchRL's.

    Examples:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import LazyTensorStorage
        >>> rb = TensorDictPrioritizedReplayBuffer(alpha=0.7, beta=0.5, storage=LazyTensorStorage(100), batch_size=4)
        >>> _ = rb.extend(TensorDict({"x": torch.arange(10)}, [10]))
        >>> batch = rb.sample()
        >>> rb.update_tensordict_priority(batch.set("td_error", torch.ones(4, 1)))
    """

    def __init__(
        self,
        *,
        alpha: float,
        beta: float,
        priority_key: NestedKey = "td_error",
        eps: float = 1e-8,
        storage: Storage | None = None,
        sample_unit: SampleUnit | None = None,
        sampler_device: torch.device | str | None = None,
        sync: bool = True,
        collate_fn: Callable | None = None,
        pin_memory: bool = False,
        prefetch: int | None = None,
        transform: Transform | None = None,
        reduction: str = "max",
        batch_size: int | None = None,
        dim_extend: int | None = None,
        generator: torch.Generator | None = None,
        shared: bool = False,
        compilable: bool = False,
        transport: Literal["auto", "direct", "ray", "distributed"] = "auto",
        transport_options: dict[str, Any] | None = None,
    ) -> None:
        if sampler_device is not None and torch.device(sampler_device).type != "cpu":
            raise ValueError(f"sampler_device={sampler_device}: priorities live on the CPU; leave it out")
        storage = self._maybe_make_storage(storage, compilable=compilable)
        if storage.ndim != 1:
            raise ValueError(f"storage: ndim={storage.ndim}; prioritised sampling here wants one dimension")
        sampler = PrioritizedSampler(storage.max_size, alpha, beta, eps, reduction=reduction, priority_key=priority_key)
        self._sync = sync
        self._prioritized_sampler = None if sync else sampler
        self._prioritized_sampler_write_count = 0
        # TorchRL's constructor would build its own sampler: go to that one's base.
        super(_TorchRLPrioritizedReplayBuffer, self).__init__(
            priority_key=priority_key,
            storage=storage,
            sampler=sampler if sync else RandomSampler(),
            sample_unit=sample_unit,
            collate_fn=collate_fn,
            pin_memory=pin_memory,
            prefetch=prefetch,
            transform=transform,
            batch_size=batch_size,
            dim_extend=dim_extend,
            generator=generator,
            shared=shared,
            compilable=compilable,
            transport=transport,
            transport_options=transport_options,
        )

    @property
    def tree(self) -> str:
        """Which tree is in use."""
        return self.prioritized_sampler.tree

    @property
    def beta(self) -> float:
        """Of the importance weights."""
        return self.prioritized_sampler.beta

    @beta.setter
    def beta(self, value: float) -> None:
        self.prioritized_sampler.beta = value

    def state_dict(self) -> dict[str, Any]:
        """As TorchRL's, and with ``sync=False`` the learner's priorities too, which TorchRL's leaves out."""
        priorities: dict[str, Any] = {}
        if not self._sync:
            self.synchronize()
            with self._replay_lock, self._write_lock:
                priorities = {
                    "_prioritized_sampler": self.prioritized_sampler.state_dict(),
                    "_prioritized_sampler_write_count": self._prioritized_sampler_write_count,
                }
        return {**super().state_dict(), **priorities}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the saved buffer stood."""
        if not self._sync and "_prioritized_sampler" not in state_dict:
            raise ValueError("sync=False: the state holds no priorities of a learner; it was saved with sync=True")
        super().load_state_dict(state_dict)
        if not self._sync:
            self.prioritized_sampler.load_state_dict(state_dict["_prioritized_sampler"])
            self._prioritized_sampler_write_count = state_dict["_prioritized_sampler_write_count"]

    def __getstate__(self) -> dict[str, Any]:
        return without_generator(super().__getstate__())


def without_generator(state: dict[str, Any]) -> dict[str, Any]:
    """A buffer's state as it can be sent to a process that is being started.

    TorchRL sends the generator's state as a tensor that is gone before the process reads it, and the start fails. What
    such a process draws, if it draws at all, follows torch's global generator there.
    """
    return {**state, "_rng": None} if get_spawning_popen() is not None else state
