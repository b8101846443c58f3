"""Prioritised replay that works on every torch."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import NestedKey
from torch import Tensor
from torchrl.data import RandomSampler, Storage, TensorStorage
from torchrl.data import TensorDictPrioritizedReplayBuffer as _TorchRLPrioritizedReplayBuffer
from torchrl.data.replay_buffers.samplers import PrioritizedSampler as _TorchRLPrioritizedSampler
from torchrl.envs.transforms import Transform

from tm_torchrl.data.sum_tree import MinTree, SumTree

try:
    from torchrl._torchrl import MinSegmentTreeFp64, SumSegmentTreeFp64
except ImportError:  # a torchrl wheel that was compiled for another torch: not noticed before a buffer is built
    MinSegmentTreeFp64 = SumSegmentTreeFp64 = None

_LOG = logging.getLogger("tm_torchrl.data")


class PrioritizedSampler(_TorchRLPrioritizedSampler):
    """TorchRL's sampler over its compiled trees where they load, and over ours where they do not.

    The law is the same: an item is drawn with probability ``(priority + eps)^alpha`` over the sum. Unlike TorchRL's it
    draws from torch's generators, never from numpy's global one, and refuses priorities that are negative or not finite
    before anything has changed.

    Args:
        max_capacity: how many items.
        alpha: 0 draws uniformly, 1 proportionally to priority.
        beta: of the importance weights ``(p / least p)^-beta``.
        eps: added to priorities.
        reduction: of priorities that have several numbers.
        compiled: TorchRL's trees; ``None`` for those if they load.

    Examples:
        >>> from torchrl.data import LazyTensorStorage
        >>> sampler = PrioritizedSampler(100, alpha=1.0, beta=0.5, compiled=False)
        >>> sampler.tree
        'tm_torchrl (vectorised)'
    """

    def __init__(
        self,
        max_capacity: int,
        alpha: float,
        beta: float,
        eps: float = 1e-8,
        *,
        reduction: str = "max",
        compiled: bool | None = None,
    ) -> None:
        for name, value in (("alpha", alpha), ("beta", beta), ("eps", eps)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value}: a finite number of 0 or more wanted")
        if compiled and SumSegmentTreeFp64 is None:
            raise ImportError(
                "compiled=True: the trees of this torchrl do not load with this torch; leave compiled out"
            )
        self.is_compiled = SumSegmentTreeFp64 is not None if compiled is None else compiled
        # As TorchRL's constructor, which refuses to run where its trees do not load.
        self._max_capacity = max_capacity
        self._alpha = alpha
        self._beta = beta
        self._eps = eps
        self.reduction = reduction
        self.dtype = torch.float64
        self._max_priority_within_buffer = False
        self._device = None
        self._init()
        _say_once(self.tree)

    @property
    def tree(self) -> str:
        """Which tree is in use, for people."""
        return "torchrl (compiled)" if self.is_compiled else "tm_torchrl (vectorised)"

    def _init(self) -> None:
        self._sum_tree: Any = (SumSegmentTreeFp64 if self.is_compiled else SumTree)(self._max_capacity)
        self._min_tree: Any = (MinSegmentTreeFp64 if self.is_compiled else MinTree)(self._max_capacity)
        self._max_priority: Any = None

    def _maybe_init_from_storage(self, storage: Storage | None) -> None:
        """The trees stay on the CPU, whatever the storage's device."""

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Indices and their ``priority_weight``."""
        if storage.ndim > 1:
            raise ValueError(f"the storage has ndim={storage.ndim}: prioritised sampling here wants one dimension")
        if not len(storage):
            raise RuntimeError("the buffer is empty: extend it before sampling")
        total, least = self._sum_tree.query(0, len(storage)), self._min_tree.query(0, len(storage))
        mass = torch.rand(batch_size, dtype=torch.float64, generator=self._rng) * total
        index = torch.as_tensor(self._sum_tree.scan_lower_bound(mass)).clamp_(max=len(storage) - 1)
        weight = torch.as_tensor(self._sum_tree[index])
        while bool((weight == 0).any()):  # a mass that rounding puts behind the last number above 0
            index = torch.where(weight == 0, index - 1, index)
            weight = torch.as_tensor(self._sum_tree[index])
        return index, {"priority_weight": ((weight / least) ** -self._beta).float()}

    def update_priority(
        self, index: int | Tensor, priority: float | Tensor, *, storage: TensorStorage | None = None
    ) -> None:
        """Set priorities; negative or non-finite ones are refused and nothing changes."""
        priority = torch.as_tensor(priority, dtype=torch.float64).detach().cpu()
        is_bad = ~(priority.isfinite() & (priority >= 0)).reshape(-1)
        if bool(is_bad.any()):
            first = int(is_bad.int().argmax())
            raise ValueError(
                f"priority: {int(is_bad.sum())} of {priority.numel()} are negative or not finite, the first at "
                f"{first} is "
                f"{float(priority.reshape(-1)[first])}; no priority was changed"
            )
        super().update_priority(torch.as_tensor(index).cpu(), priority, storage=storage)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers: no objects."""
        every = torch.arange(self._max_capacity)
        highest: tuple[Any, Any] = self._max_priority
        return {
            "alpha": self._alpha,
            "beta": self._beta,
            "eps": self._eps,
            "tree": torch.as_tensor(self._sum_tree[every]).to(torch.float64).clone(),
            "max_priority": None if highest[0] is None else [float(highest[0]), int(highest[1])],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Exactly what was saved, with either kind of tree."""
        tree = state_dict["tree"]
        if len(tree) != self._max_capacity:
            raise ValueError(f"the saved sampler has capacity {len(tree)}, this one {self._max_capacity}")
        self._alpha, self._beta, self._eps = (state_dict[name] for name in ("alpha", "beta", "eps"))
        self._init()
        written = tree.nonzero().squeeze(-1)
        self._sum_tree[written] = tree[written]
        self._min_tree[written] = tree[written]
        saved = state_dict["max_priority"]
        self._max_priority = None if saved is None else (torch.tensor(saved[0], dtype=torch.float64), int(saved[1]))

    def dumps(self, path: str | Path) -> None:
        """Write to a folder."""
        folder = Path(path)
        folder.mkdir(exist_ok=True)
        state = self.state_dict()
        torch.save(state.pop("tree"), folder / "priorities.pt")
        (folder / "sampler_metadata.json").write_text(json.dumps(state))

    def loads(self, path: str | Path) -> None:
        """Read from a folder."""
        folder = Path(path)
        state = json.loads((folder / "sampler_metadata.json").read_text())
        self.load_state_dict({**state, "tree": torch.load(folder / "priorities.pt", weights_only=True)})


class TensorDictPrioritizedReplayBuffer(_TorchRLPrioritizedReplayBuffer):
    """TorchRL's class of this name, for every torch.

    TorchRL's prioritised buffers need compiled trees, which do not load unless its wheel was compiled for the torch
    that is installed; it shows only when a buffer is built. Here a vectorised tree takes their place. ``rb.tree`` says
    which is in use. Storages have one dimension.

    Args:
        alpha: 0 draws uniformly, 1 proportionally to priority.
        beta: of the importance weights; ``rb.beta = 0.7`` changes it, and TorchRL's ``LinearScheduler`` can.
        priority_key: read by ``update_tensordict_priority``.
        eps: added to priorities.
        storage: of the transitions.
        sync: ``False`` when other processes write: the learner's process owns the priorities.
        collate_fn: as TorchRL's.
        pin_memory: of samples.
        prefetch: number of batches sampled ahead.
        transform: of the buffer.
        reduction: of priorities that have several numbers.
        batch_size: of samples.
        generator: that draws; ``None`` for torch's global one.
        shared: between processes.

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
        sync: bool = True,
        collate_fn: Callable | None = None,
        pin_memory: bool = False,
        prefetch: int | None = None,
        transform: Transform | None = None,
        reduction: str = "max",
        batch_size: int | None = None,
        generator: torch.Generator | None = None,
        shared: bool = False,
    ) -> None:
        storage = self._maybe_make_storage(storage, compilable=False)
        if storage.ndim != 1:
            raise ValueError(f"storage: ndim={storage.ndim}; prioritised sampling here wants one dimension")
        sampler = PrioritizedSampler(storage.max_size, alpha, beta, eps, reduction=reduction)
        sampler._rng = generator
        self._sync = sync
        self._prioritized_sampler = None if sync else sampler
        self._prioritized_sampler_write_count = 0
        # TorchRL's constructor would build its own sampler: go to that one's base.
        super(_TorchRLPrioritizedReplayBuffer, self).__init__(
            priority_key=priority_key,
            storage=storage,
            sampler=sampler if sync else RandomSampler(),
            collate_fn=collate_fn,
            pin_memory=pin_memory,
            prefetch=prefetch,
            transform=transform,
            batch_size=batch_size,
            generator=generator,
            shared=shared,
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
        if not 0 <= value < float("inf"):
            raise ValueError(f"beta={value}: a finite number of 0 or more wanted")
        self.prioritized_sampler.beta = value


@functools.cache
def _say_once(tree: str) -> None:
    _LOG.info("prioritised replay: the tree in use is %s", tree)
