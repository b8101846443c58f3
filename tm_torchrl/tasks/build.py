"""From settings to a task and a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tm_torchrl.settings.construct import ConfigError, construct
from tm_torchrl.tasks.task import Task

Settings = Mapping[str, Any]


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes CUDA where it is."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(f"device={name!r}: auto, cpu or cuda wanted") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name!r}: auto, cpu or cuda wanted")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name!r}: this torch sees no CUDA device; use device=cpu or auto")
    return device


def build_task(settings: Settings) -> Task:
    """What is trained on."""
    if settings.get("missing"):
        raise ConfigError(f"experiment: it needs {settings['missing']}, which this version does not have yet")
    task: Task = construct(settings["env"], name="env")
    if not hasattr(task, "num_envs") or not hasattr(task, "make_env"):
        raise ConfigError(f"env._target_={settings['env']['_target_']}: it is no task, such as TrackManiaTask")
    if task.num_envs < 1:
        raise ConfigError(f"env.num_envs={task.num_envs}: at least 1 is needed")
    return task
