"""The real game: clients of TMInterface, as worlds to drive in; and emulators that speak the same bytes.

Names are imported when they are used, so that reading states costs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.game.client import Client, Moment, Passed
    from tm_torchrl.game.errors import CallRefused, GameError, GameGone, GameTimeout, NobodyThereError, ProtocolError
    from tm_torchrl.game.tmi1.client import TMInterface1Client
    from tm_torchrl.game.tmi2.client import TMInterface2Client
    from tm_torchrl.game.world import GameWorld

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
