"""Game instances: start them, watch them, reconnect to them, end them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.game.instances.instances import Instances
    from tm_torchrl.game.instances.launcher import GameLauncher

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
