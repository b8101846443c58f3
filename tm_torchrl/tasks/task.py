"""The protocol of a task, and tasks from settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from tensordict import NestedKey
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from tm_torchrl.evaluation import Laps
from tm_torchrl.settings.construct import ConfigError, construct
from tm_torchrl.settings.schedules import Schedule
from tm_torchrl.world.layout import Layout

Row = dict[str, Any]
Settings = Mapping[str, Any]


class Task(Protocol):
    """What is trained on: makes environments, describes the inputs of networks, and evaluates policies.

    Attributes:
        num_envs: Training environments of all workers together.
        has_goal: Whether an episode that terminates reached its goal, as at a finish line.
        can_be_copied: Whether a copy in another process can evaluate while this one trains.
    """

    num_envs: int
    has_goal: bool
    can_be_copied: bool

    @property
    def label(self) -> str:
        """A short name, for the display and for folders."""
        ...

    @property
    def in_keys(self) -> list[NestedKey]:
        """The keys that the network reads."""
        ...

    @property
    def num_workers(self) -> int | None:
        """The number of worker processes that the task needs; ``None`` if any number will do."""
        ...

    @property
    def longest_step_s(self) -> float:
        """How long a step may take at most, where that is longer than the collector's limit."""
        ...

    def check_workers(self, workers: int, *, in_this_process: bool) -> None:
        """Raise ``ValueError`` for a number of workers that cannot share the environments."""
        ...

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """A training environment with copies ``first`` to ``first + num_envs - 1``."""
        ...

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """An environment of at most ``num_envs`` copies, for specs and a few steps; the caller closes it."""
        ...

    def network_arguments(self) -> dict[str, Any]:
        """Sizes and constants for the constructor of a network."""
        ...

    def float_layout(self) -> Layout | None:
        """The fields of the float observation; ``None`` if they have no names."""
        ...

    def sees(self, field: str) -> bool:
        """Whether the network reads a field of the float observation."""
        ...

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """Evaluate a policy: a row of results for each track, or one for the task."""
        ...

    def lap_from_start(self, policy: TensorDictModuleBase, laps: Laps) -> Laps:
        """The best of evaluated laps, or one driven anew, that began at rest on the start line."""
        ...

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        """The quality of evaluation results, compared as tuples; greater is better."""
        ...

    def schedules(self, *, speed: float) -> dict[str, Schedule]:
        """Settings of the environments that change with the frames played, for the log."""
        ...

    def close(self) -> None:
        """Release what is open in this process, such as connections to games."""
        ...


class TaskDefaults:
    """Defaults for the parts of the protocol that most tasks do not need."""

    has_goal = False
    can_be_copied = True

    @property
    def num_workers(self) -> int | None:
        """``None``: any number of workers will do."""
        return None

    @property
    def longest_step_s(self) -> float:
        """0: the collector's limit applies."""
        return 0.0

    def check_workers(self, workers: int, *, in_this_process: bool) -> None:
        """Accept any number."""

    def float_layout(self) -> Layout | None:
        """``None``: the floats have no names."""
        return None

    def sees(self, field: str) -> bool:
        """False: the floats have no names."""
        return False

    def lap_from_start(self, policy: TensorDictModuleBase, laps: Laps) -> Laps:
        """The best of the laps: all began there."""
        return laps

    def schedules(self, *, speed: float) -> dict[str, Schedule]:
        """Empty: nothing changes with the frames."""
        return {}

    def close(self) -> None:
        """Do nothing; nothing is open."""


def make_task(settings: Settings) -> Task:
    """The task of a configuration.

    Args:
        settings: A complete configuration, whose ``env`` describes the task.
    """
    task: Task = construct(settings["env"], name="env")
    if not isinstance(task, TaskDefaults):
        raise ConfigError(f"env._target_={settings['env']['_target_']}: must be a task, such as TrackManiaTask")
    if task.num_envs < 1:
        raise ConfigError(f"env.num_envs={task.num_envs}: must be at least 1")
    return task
