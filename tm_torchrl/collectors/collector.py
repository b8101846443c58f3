"""The protocols of collection: what makes environments, and what delivers their steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase


class EnvMaker(Protocol):
    """Makes environments in worker processes; a task is one."""

    num_envs: int

    @property
    def num_workers(self) -> int | None:
        """The number of workers that it needs; ``None`` for any."""
        ...

    @property
    def longest_step_s(self) -> float:
        """How long a step may take without being a failure, beyond the collector's own limit."""
        ...

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """An environment with copies ``first`` to ``first + num_envs - 1``."""
        ...

    def check_workers(self, workers: int, *, in_this_process: bool) -> None:
        """Raise ``ValueError`` for a number of workers that cannot share the environments."""
        ...


class Source(Protocol):
    """What the loop iterates over: batches of steps ``[N, T]``, from a simulator, the game or a data set."""

    def __iter__(self) -> Iterator[TensorDictBase]:
        """Batches, without end."""
        ...

    def push_weights(self) -> None:
        """Called after the updates of each batch: act with the present weights from now on."""
        ...

    def set_frames(self, num_frames: int) -> None:
        """Called with the number of frames played, for rewards on schedules."""
        ...

    def metrics(self) -> dict[str, float]:
        """Numbers for a row of the log, of the batches since the last call."""
        ...

    def shutdown(self) -> None:
        """End all workers; never raises."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Environments and steps in progress, as plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        ...
