"""Settings: the Hydra tree, objects made from it, schedules, settings of saved runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.settings.construct import ConfigError, construct
    from tm_torchrl.settings.schedules import Exponential, Linear, Schedule, Staircase, make_schedule
    from tm_torchrl.settings.stored import run_settings
    from tm_torchrl.settings.tree import compose_settings

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
