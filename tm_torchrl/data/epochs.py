"""Epochs: what memories of policy gradients share, shuffled minibatches of the steps collected last.

Shapes: F steps, M steps of a minibatch. For networks with memory both are sequences of L steps, ``[F, L]``, ``[M, L]``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer

STOP_FACTOR = 1.5  # of target_kl, above which no further updates are made (Spinning Up, SB3)


class Epochs:
    """Hands out minibatches once there are enough steps, which are forgotten after the last epoch.

    Args:
        frames_per_update: Frames of all lanes together that are collected before learning begins.
        num_epochs: How often each step is learnt from.
        minibatch_size: Frames in a minibatch, as near as equal minibatches allow.
        target_kl: The epochs end when the divergence from the policy that collected exceeds 1.5 times this; ``None``
            for all epochs.
        diagnostics: The columns of what the loss writes into each minibatch at ``diagnostics`` ``[M, K]``, to be
            averaged for the log; the first one is the divergence.
        seed: Seeds the order of the minibatches.
    """

    def __init__(
        self,
        *,
        frames_per_update: int,
        num_epochs: int,
        minibatch_size: int,
        target_kl: float | None = None,
        diagnostics: Sequence[str] = ("kl",),
        seed: int = 0,
    ) -> None:
        counts = {"frames_per_update": frames_per_update, "num_epochs": num_epochs, "minibatch_size": minibatch_size}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name}={count}: must be at least 1")
        if minibatch_size > frames_per_update:
            raise ValueError(f"minibatch_size={minibatch_size}: must be at most frames_per_update={frames_per_update}")
        if target_kl is not None and not target_kl > 0:
            raise ValueError(f"target_kl={target_kl}: must be positive, or null for no limit")
        self.frames_per_update = frames_per_update
        self.num_epochs = num_epochs
        self.minibatch_size = minibatch_size
        self.target_kl = target_kl
        self.diagnostics = list(diagnostics)
        self._generator = torch.Generator().manual_seed(seed)
        self._rollout: TensorDictBase | None = None  # [F], in which learning goes on
        self._order = torch.zeros(0, dtype=torch.int64)  # of the present epoch
        self._minibatches: list[TensorDictBase] = []  # of the present epoch; shuffled once, as views
        self._epoch, self._position = 0, 0  # the present epoch, and the next minibatch in it
        self._sums = torch.zeros(len(self.diagnostics))  # of the diagnostics
        self._num_seen = 0

    @abstractmethod
    def __len__(self) -> int:
        """The number of steps that wait for learning to begin."""

    @abstractmethod
    def _gathered(self) -> TensorDictBase:
        """Those steps ``[F]`` with what the loss reads; they wait no longer."""

    def batches(self) -> Iterator[TensorDictBase]:
        """The minibatches ``[M]`` of all epochs, each once ``frames_per_update`` steps have been collected."""
        if self._rollout is None:
            if len(self) < self.frames_per_update:
                return
            self._rollout = self._gathered()
            self._epoch, self._position = 0, 0
            self._sums, self._num_seen = torch.zeros_like(self._sums), 0
        if not len(self._rollout):
            self._epoch = self.num_epochs
        num = min(max(1, round(self._rollout.numel() / self.minibatch_size)), len(self._rollout))
        while self._epoch < self.num_epochs:
            if self._position == 0:
                self._order = torch.randperm(len(self._rollout), generator=self._generator)
                self._minibatches = []
            if not self._minibatches:
                shuffled = self._rollout[self._order.to(self._rollout.device)]
                sizes = [len(shuffled) // num + (i < len(shuffled) % num) for i in range(num)]
                self._minibatches = list(shuffled.split(sizes)) if num > 1 else [shuffled]
            batch = self._minibatches[self._position]
            self._position += 1
            if self._position == num:
                self._epoch, self._position = self._epoch + 1, 0
            yield batch
        self._rollout, self._minibatches = None, []

    def seen(self, batch: TensorDictBase) -> None:
        """Add what the loss wrote into the minibatch; end the epochs where the policy has moved too far."""
        found = batch.get("diagnostics")[(0,) * batch.ndim]
        self._sums = self._sums.to(found.device) + found
        self._num_seen += 1
        if self.target_kl is not None and float(found[0]) > STOP_FACTOR * self.target_kl:
            self._epoch, self._position = self.num_epochs, 0

    def set_frames(self, frames: int) -> None:
        """Nothing follows the frames played."""

    def contents(self) -> dict[str, ReplayBuffer]:
        """None: what is stored is small, and part of ``state_dict``."""
        return {}

    def metrics(self) -> dict[str, float]:
        """Means over the updates with the last rollout, and the number of those updates."""
        if not self._num_seen:
            return {}
        means = dict(zip(self.diagnostics, (self._sums / self._num_seen).tolist(), strict=True))
        return {**means, "updates_of_rollout": float(self._num_seen)}

    def state_dict(self) -> dict[str, Any]:
        """What learning goes on in, the order of the minibatches, and sums for the log."""
        return {
            "rollout": None if self._rollout is None else self._rollout.clone(),
            "order": self._order.clone(),
            "epoch": self._epoch,
            "position": self._position,
            "generator": self._generator.get_state(),
            "sums": self._sums.clone(),
            "num_seen": self._num_seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._rollout, self._order, self._minibatches = state["rollout"], state["order"], []
        self._epoch, self._position = state["epoch"], state["position"]
        self._generator.set_state(state["generator"])
        self._sums, self._num_seen = state["sums"], state["num_seen"]
