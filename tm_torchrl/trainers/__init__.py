"""Training: where everything meets. Imports torch only when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.trainers.agent import Agent, load_agent, make_agent
    from tm_torchrl.trainers.checkpoint import CheckpointError, Checkpoints
    from tm_torchrl.trainers.configuration import compose_settings
    from tm_torchrl.trainers.construct import ConfigError
    from tm_torchrl.trainers.learner import Learner, NonFiniteLossError
    from tm_torchrl.trainers.managed import FQF, IQN, QRDQN
    from tm_torchrl.trainers.replay import Replay
    from tm_torchrl.trainers.schedules import Exponential, Linear, Schedule, Staircase, make_schedule
    from tm_torchrl.trainers.start import Summary, train
    from tm_torchrl.trainers.tasks import GymnasiumTask, Task, TrackManiaTask
    from tm_torchrl.trainers.training import Training

_HOMES = {
    "agent": ("Agent", "load_agent", "make_agent"),
    "checkpoint": ("CheckpointError", "Checkpoints"),
    "configuration": ("compose_settings",),
    "construct": ("ConfigError",),
    "learner": ("Learner", "NonFiniteLossError"),
    "managed": ("FQF", "IQN", "QRDQN"),
    "replay": ("Replay",),
    "schedules": ("Exponential", "Linear", "Schedule", "Staircase", "make_schedule"),
    "start": ("Summary", "train"),
    "tasks": ("GymnasiumTask", "Task", "TrackManiaTask"),
    "training": ("Training",),
}
_FILE_OF = {name: file for file, names in _HOMES.items() for name in names}

__all__ = [
    "FQF",
    "IQN",
    "QRDQN",
    "Agent",
    "CheckpointError",
    "Checkpoints",
    "ConfigError",
    "Exponential",
    "GymnasiumTask",
    "Learner",
    "Linear",
    "NonFiniteLossError",
    "Replay",
    "Schedule",
    "Staircase",
    "Summary",
    "Task",
    "TrackManiaTask",
    "Training",
    "compose_settings",
    "load_agent",
    "make_agent",
    "make_schedule",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_FILE_OF[name]}"), name)
