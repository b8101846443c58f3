"""What the simulator and the game share: car row, tracker, sensors, actions, drivers and the World protocol.

Names are imported when they are first used, so that actions and layouts do not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.world.actions import ACTIONS
    from tm_torchrl.world.car_row import CAR_ROW
    from tm_torchrl.world.drivers import FullThrottle, Pursuit, RandomDriver, Replay, drive
    from tm_torchrl.world.observation import observation_constants, observation_layout
    from tm_torchrl.world.protocol import World
    from tm_torchrl.world.sensors import Sensors
    from tm_torchrl.world.tracker import EndCause, Limits, Tracker

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
