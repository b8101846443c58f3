"""The sampler of prioritised replay, over TorchRL's compiled trees or our own."""

from __future__ import annotations

import functools
import json
import logging
import math
from pathlib import Path
from typing import Any

import torch
from tensordict import NestedKey
from torch import Tensor
from torchrl.data import Storage, TensorStorage
from torchrl.data.replay_buffers.samplers import PrioritizedSampler as _TorchRLPrioritizedSampler

from tm_torchrl.data.storage.sum_tree import MinTree, SumTree

try:
    from torchrl._torchrl import MinSegmentTreeFp64, SumSegmentTreeFp64
except ImportError:  # a torchrl wheel that was compiled for another torch, which shows only when a buffer is built
    MinSegmentTreeFp64 = SumSegmentTreeFp64 = None

_LOG = logging.getLogger("tm_torchrl.data")


class PrioritizedSampler(_TorchRLPrioritizedSampler):
    """TorchRL's sampler over its compiled trees if they load, and over our own trees otherwise.

    The distribution is the same: an item is drawn with a probability proportional to ``(priority + eps)^alpha``. Unlike
    TorchRL's sampler it draws from torch's generators, never from numpy's global one. Priorities that are negative, not
    finite, or 0 or infinite as ``(priority + eps)^alpha`` raise an error before anything has changed.

    Args:
        max_capacity: Number of items.
        alpha: 0 samples uniformly, 1 in proportion to priority. Setting it later converts the priorities in the tree.
        beta: Exponent of the importance weights ``(p / least p)^-beta``; may be set at any time.
        eps: Added to priorities.
        reduction: How a priority of several numbers becomes one.
        compiled: Whether to use TorchRL's trees; ``None`` uses them if they load.
        priority_key: Key at which losses write priorities.

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
        priority_key: NestedKey = "td_error",
    ) -> None:
        if max_capacity < 1:
            raise ValueError(f"max_capacity={max_capacity}: must be at least 1")
        if compiled and SumSegmentTreeFp64 is None:
            raise ImportError(
                "compiled=True: the trees of this torchrl do not load with this torch; leave compiled out"
            )
        self.is_compiled = SumSegmentTreeFp64 is not None if compiled is None else compiled
        # As in TorchRL's constructor, which fails where its trees do not load.
        self._max_capacity = max_capacity
        self._alpha = _checked("alpha", alpha)
        self._beta = _checked("beta", beta)
        self._eps = _checked("eps", eps)
        self.reduction = reduction
        self.priority_key = priority_key
        self.dtype = torch.float64
        self._max_priority_within_buffer = False
        self._device = None
        self._init()
        _log_once(self.tree)

    @property
    def tree(self) -> str:
        """Which tree is in use, as text for a log."""
        return "torchrl (compiled)" if self.is_compiled else "tm_torchrl (vectorised)"

    @property
    def alpha(self) -> float:
        """0 samples uniformly, 1 in proportion to priority."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        _TorchRLPrioritizedSampler.alpha.fset(self, _checked("alpha", value))

    @property
    def beta(self) -> float:
        """Exponent of the importance weights."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._beta = _checked("beta", value)

    def _init(self) -> None:
        self._sum_tree: Any = (SumSegmentTreeFp64 if self.is_compiled else SumTree)(self._max_capacity)
        self._min_tree: Any = (MinSegmentTreeFp64 if self.is_compiled else MinTree)(self._max_capacity)
        self._max_priority: Any = None

    def _maybe_init_from_storage(self, storage: Storage | None) -> None:
        """The trees stay on the CPU, whatever the storage's device."""

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw indices; returns them with their ``priority_weight``."""
        if storage.ndim > 1:
            raise ValueError(f"storage.ndim={storage.ndim}: must be 1")
        num = len(storage)
        if not num:
            raise RuntimeError("the buffer is empty: extend it before sampling")
        total, least = self.masses(num)
        if not total > 0:
            raise RuntimeError(f"none of the {num} items in the storage has a priority: write them through the buffer")
        index, weight = self.find(torch.rand(batch_size, dtype=torch.float64, generator=self._rng) * total, num)
        return index, {"priority_weight": ((weight / least) ** -self._beta).float()}

    def masses(self, num: int) -> tuple[float, float]:
        """The sum and the least of ``(priority + eps)^alpha`` of the first ``num`` items."""
        return float(self._sum_tree.query(0, num)), float(self._min_tree.query(0, num))

    def find(self, mass: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """Items among the first ``num`` at which the running sum passes some values, and what each adds to the sum."""
        index = torch.as_tensor(self._sum_tree.scan_lower_bound(mass)).clamp_(max=num - 1)
        weight = torch.as_tensor(self._sum_tree[index])
        while bool((weight == 0).any()):  # compiled trees may round a mass beyond the last item above 0
            index = torch.where(weight == 0, index - 1, index)
            weight = torch.as_tensor(self._sum_tree[index])
        return index, weight

    def update_priority(
        self, index: int | Tensor, priority: float | Tensor, *, storage: TensorStorage | None = None
    ) -> None:
        """Set priorities; invalid ones raise a ``ValueError`` and change nothing. Items of index -1 are skipped."""
        index = torch.as_tensor(index, dtype=torch.int64).cpu()
        if index.ndim > 1:
            raise ValueError(f"index: its shape is {list(index.shape)}; must have one dimension")
        index = index.reshape(-1)
        priority = torch.as_tensor(priority, dtype=torch.float64).detach().cpu().reshape(-1)
        if len(priority) not in (1, len(index)):
            raise ValueError(f"{self.priority_key!r}: {len(priority)} priorities for {len(index)} items")
        priority = priority.expand(len(index))
        is_written = index >= 0
        if not bool(is_written.all()):
            index, priority = index[is_written], priority[is_written]
        if not len(index):
            return
        mass = (priority + self._eps) ** self._alpha
        self._check(index, priority, mass)
        highest, at = priority.max(0)
        if self._max_priority[0] is None or highest > self._max_priority[0]:
            self._max_priority = (highest, int(index[at]))
        self._sum_tree[index] = mass
        self._min_tree[index] = mass

    def _check(self, index: Tensor, priority: Tensor, mass: Tensor) -> None:
        if int(index.max()) >= self._max_capacity:
            raise IndexError(f"index {int(index.max())}: must be below {self._max_capacity}; no priority was changed")
        (least, most), (least_mass, most_mass) = priority.aminmax(), mass.aminmax()
        if least >= 0 and most < math.inf and least_mass > 0 and most_mass < math.inf:  # NaN is none of these
            return
        is_bad, problem = ~(priority.isfinite() & (priority >= 0)), "negative or not finite"
        if not bool(is_bad.any()):
            is_bad = ~(mass.isfinite() & (mass > 0))
            problem = f"0 or infinite as (priority + {self._eps:g})^{self._alpha:g}"
        first = int(is_bad.int().argmax())
        raise ValueError(
            f"{self.priority_key!r}: {int(is_bad.sum())} of {len(priority)} priorities are {problem}, the first is "
            f"{float(priority[first])} at {first} (of item {int(index[first])}); no priority was changed"
        )

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and numbers, without objects."""
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
        """Load a saved state, from either kind of tree."""
        tree = state_dict["tree"]
        if len(tree) != self._max_capacity:
            raise ValueError(f"max_capacity={self._max_capacity}: the saved sampler has max_capacity={len(tree)}")
        self._alpha, self._beta, self._eps = (state_dict[name] for name in ("alpha", "beta", "eps"))
        self._init()
        written = tree.nonzero().squeeze(-1)
        if len(written):
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


def _checked(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value}: must be a finite number of at least 0")
    return float(value)  # schedulers set numpy scalars, which could not be saved without pickle


@functools.cache
def _log_once(tree: str) -> None:
    reason = ": torchrl's compiled trees do not load with this torch" if SumSegmentTreeFp64 is None else ""
    _LOG.info("prioritised replay: the tree in use is %s%s", tree, reason)
