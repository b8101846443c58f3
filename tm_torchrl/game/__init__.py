"""The real game: clients of TMInterface, as worlds to drive in; and emulators that speak the same bytes.

Names are imported when they are used, so that reading states costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.game.client import Client, Moment, Passed
    from tm_torchrl.game.errors import CallRefused, GameError, GameGone, GameTimeout, NobodyThereError, ProtocolError
    from tm_torchrl.game.tminterface1 import TMInterface1Client
    from tm_torchrl.game.tminterface2 import TMInterface2Client
    from tm_torchrl.game.world import GameWorld

_HOMES = {
    "CallRefused": "errors",
    "Client": "client",
    "GameError": "errors",
    "GameGone": "errors",
    "GameTimeout": "errors",
    "GameWorld": "world",
    "Moment": "client",
    "NobodyThereError": "errors",
    "Passed": "client",
    "ProtocolError": "errors",
    "TMInterface1Client": "tminterface1",
    "TMInterface2Client": "tminterface2",
}

__all__ = [
    "CallRefused",
    "Client",
    "GameError",
    "GameGone",
    "GameTimeout",
    "GameWorld",
    "Moment",
    "NobodyThereError",
    "Passed",
    "ProtocolError",
    "TMInterface1Client",
    "TMInterface2Client",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
