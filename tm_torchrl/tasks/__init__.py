"""What is trained on: TrackMania in the simulator or in the game, and gymnasium tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.tasks.game import GameTask
    from tm_torchrl.tasks.gymnasium import GymnasiumTask
    from tm_torchrl.tasks.recorded_frames import RecordedFrames
    from tm_torchrl.tasks.reward import Reward
    from tm_torchrl.tasks.task import Row, Task, make_task
    from tm_torchrl.tasks.trackmania import TrackManiaTask

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
