"""Prioritised replay that works with every version of torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import NestedKey
from torchrl.data import Storage
from torchrl.data import TensorDictPrioritizedReplayBuffer as _TorchRLPrioritizedReplayBuffer
from torchrl.data.replay_buffers.sample_units import SampleUnit
from torchrl.envs.transforms import Transform

from tm_torchrl.data.storage.prioritized_sampler import PrioritizedSampler


class TensorDictPrioritizedReplayBuffer(_TorchRLPrioritizedReplayBuffer):
    """TorchRL's buffer of this name, for every version of torch; arguments have TorchRL's names and meanings.

    TorchRL's prioritised buffers need compiled trees, which do not load unless the wheel was compiled for the installed
    torch; this shows only when a buffer is built. Here a vectorised tree takes their place. ``rb.tree`` says which one
    is in use. Storages have one dimension, priorities are kept on the CPU, and one process writes and samples, so that
    TorchRL's arguments for several processes (``sync``, ``shared``, ``transport``) do not exist here.

    Args:
        alpha: 0 samples uniformly, 1 in proportion to priority.
        beta: Exponent of the importance weights; ``rb.beta = 0.7`` changes it, and so does TorchRL's
            ``LinearScheduler(rb.sampler, "beta", ...)``.
        priority_key: Key that ``update_tensordict_priority`` reads.
        eps: Added to priorities.
        storage: Holds the transitions.
        sample_unit: What is gathered around a sampled item, such as TorchRL's ``Sequence``.
        collate_fn: Makes a batch of the samples.
        pin_memory: Whether samples are put into pinned memory.
        prefetch: Number of batches that are sampled ahead.
        transform: Changes what is written and sampled.
        reduction: How a priority of several numbers becomes one.
        batch_size: Number of transitions in a sample.
        dim_extend: Dimension along which ``extend`` counts transitions.
        generator: Draws the samples; ``None`` uses torch's global generator.

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
        collate_fn: Callable | None = None,
        pin_memory: bool = False,
        prefetch: int | None = None,
        transform: Transform | None = None,
        reduction: str = "max",
        batch_size: int | None = None,
        dim_extend: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        storage = self._maybe_make_storage(storage, compilable=False)
        if storage.ndim != 1:
            raise ValueError(f"storage.ndim={storage.ndim}: must be 1")
        self._sync, self._prioritized_sampler, self._prioritized_sampler_write_count = True, None, 0  # TorchRL's
        # TorchRL's constructor would build its own sampler, so that of its base class is called.
        super(_TorchRLPrioritizedReplayBuffer, self).__init__(
            priority_key=priority_key,
            storage=storage,
            sampler=PrioritizedSampler(
                storage.max_size, alpha, beta, eps, reduction=reduction, priority_key=priority_key
            ),
            sample_unit=sample_unit,
            collate_fn=collate_fn,
            pin_memory=pin_memory,
            prefetch=prefetch,
            transform=transform,
            batch_size=batch_size,
            dim_extend=dim_extend,
            generator=generator,
        )

    @property
    def tree(self) -> str:
        """Which tree is in use."""
        return self.sampler.tree

    @property
    def beta(self) -> float:
        """Exponent of the importance weights."""
        return self.sampler.beta

    @beta.setter
    def beta(self, value: float) -> None:
        self.sampler.beta = value
