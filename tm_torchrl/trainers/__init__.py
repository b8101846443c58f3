"""Training: where everything meets. Imports torch only when used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

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

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
