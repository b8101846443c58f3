"""What simulator and game share: car row, tracker, sensors, actions, drivers and the World protocol.

Names are imported when they are used, so that geometry and rows cost no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.world.actions import ACTIONS
    from tm_torchrl.world.car_row import CAR_ROW
    from tm_torchrl.world.drivers import FullThrottle, Pursuit, RandomDriver, Replay
    from tm_torchrl.world.observation import observation_constants, observation_layout
    from tm_torchrl.world.protocol import World
    from tm_torchrl.world.sensors import Sensors
    from tm_torchrl.world.tracker import EndCause, Limits, Tracker

_HOMES = {
    "ACTIONS": "actions",
    "CAR_ROW": "car_row",
    "EndCause": "tracker",
    "FullThrottle": "drivers",
    "Limits": "tracker",
    "Pursuit": "drivers",
    "RandomDriver": "drivers",
    "Replay": "drivers",
    "Sensors": "sensors",
    "Tracker": "tracker",
    "World": "protocol",
    "observation_constants": "observation",
    "observation_layout": "observation",
}

__all__ = [
    "ACTIONS",
    "CAR_ROW",
    "EndCause",
    "FullThrottle",
    "Limits",
    "Pursuit",
    "RandomDriver",
    "Replay",
    "Sensors",
    "Tracker",
    "World",
    "observation_constants",
    "observation_layout",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
