"""The real game as a world to drive in: clients of TMInterface, and emulators that speak the same protocols.

Public names are imported when they are first used, so that reading the game's states does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.game.client import Client, PassedCheckpoint, Snapshot
    from tm_torchrl.game.errors import CallRefused, GameError, GameGone, GameTimeout, NobodyThereError, ProtocolError
    from tm_torchrl.game.tmi1.client import TMInterface1Client
    from tm_torchrl.game.tmi2.client import TMInterface2Client
    from tm_torchrl.game.world import GameWorld

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
