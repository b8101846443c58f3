"""The protocol of a task, and how one is made from settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from tensordict import NestedKey
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from tm_torchrl.settings.construct import ConfigError, construct
from tm_torchrl.settings.schedules import Schedule
from tm_torchrl.world.layout import Layout

Row = dict[str, Any]
Settings = Mapping[str, Any]


class Task(Protocol):
    """What is trained on: makes environments, says what networks read, and judges policies.

    Attributes:
        num_envs: Environments to train in, over all workers together.
        has_goal: Whether an episode that terminates reached its goal, as at a finish line.
    """

    num_envs: int
    has_goal: bool

    @property
    def label(self) -> str:
        """A short name, for people and folders."""
        ...

    @property
    def in_keys(self) -> list[NestedKey]:
        """What the network reads."""
        ...

    @property
    def num_workers(self) -> int | None:
        """The number of worker processes that it needs; ``None`` for any."""
        ...

    @property
    def longest_step_s(self) -> float:
        """How long a step may take without being a failure, beyond the collector's own limit."""
        ...

    def check_workers(self, workers: int, *, in_this_process: bool) -> None:
        """Raise ``ValueError`` for a number of workers that cannot share the environments."""
        ...

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """An environment to train in, holding copies ``first`` to ``first + num_envs - 1``."""
        ...

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """At most so many copies in this process, for specs and a few steps; close it afterwards."""
        ...

    def network_arguments(self) -> dict[str, Any]:
        """Sizes and constants that networks are constructed with."""
        ...

    def float_layout(self) -> Layout | None:
        """The fields of the float observation; ``None`` where they have no names."""
        ...

    def sees(self, field: str) -> bool:
        """Whether the network reads a field of the float observation."""
        ...

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """A row of results for each track, or one for the task."""
        ...

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        """How good results are; greater is better."""
        ...

    def schedules(self, *, speed: float) -> dict[str, Schedule]:
        """What environments change by themselves with the frames played, for the log."""
        ...

    def close(self) -> None:
        """Release what is open in this process, such as games that were evaluated in."""
        ...


class TaskDefaults:
    """What most tasks answer to the questions of the protocol."""

    has_goal = False

    @property
    def num_workers(self) -> int | None:
        """Any number of workers will do."""
        return None

    @property
    def longest_step_s(self) -> float:
        """The collector's own limit holds."""
        return 0.0

    def check_workers(self, workers: int, *, in_this_process: bool) -> None:
        """Any number of workers will do."""

    def float_layout(self) -> Layout | None:
        """The floats have no names."""
        return None

    def sees(self, field: str) -> bool:
        """No field has a name."""
        return False

    def schedules(self, *, speed: float) -> dict[str, Schedule]:
        """Nothing changes with the frames."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


def make_task(settings: Settings) -> Task:
    """The task of a configuration.

    Args:
        settings: A whole configuration; ``env`` says which task.
    """
    if settings.get("missing"):
        raise ConfigError(f"experiment: it needs {settings['missing']}, which this version does not have yet")
    task: Task = construct(settings["env"], name="env")
    if not isinstance(task, TaskDefaults):
        raise ConfigError(f"env._target_={settings['env']['_target_']}: must be a task, such as TrackManiaTask")
    if task.num_envs < 1:
        raise ConfigError(f"env.num_envs={task.num_envs}: must be at least 1")
    return task
