"""The protocol of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from tensordict import NestedKey
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import EnvBase

from tm_torchrl.settings.schedules import Schedule

Row = dict[str, Any]


class Task(Protocol):
    """Makes environments to train in, says what networks see, and judges policies."""

    num_envs: int

    @property
    def label(self) -> str:
        """For people and folders."""
        ...

    @property
    def in_keys(self) -> list[NestedKey]:
        """What the network reads."""
        ...

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """An environment to train in, holding copies ``first`` to ``first + num_envs - 1``."""
        ...

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """At most so many copies, for a look at specs and a few steps in this process; to be closed afterwards."""
        ...

    def network_arguments(self) -> dict[str, Any]:
        """Sizes and constants that networks are constructed with."""
        ...

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """A row of results for each track, or one for the task."""
        ...

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        """How good results are; greater is better."""
        ...

    def schedules(self, *, speed: float) -> dict[str, Schedule]:
        """What environments change by themselves with the frames played, to be shown."""
        ...

    def is_finished(self, batch: Mapping[Any, Any]) -> Tensor | None:
        """Which steps of a collected batch reached the goal; ``None`` where there is none."""
        ...

    def close(self) -> None:
        """Let go of what is open in this process, such as games that were evaluated in."""
        ...
