"""Replay: n-step writer, frame store, mini-race, buffers. Imports torch only when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.data.frame_store import FrameStorage
    from tm_torchrl.data.mini_race import MiniRace
    from tm_torchrl.data.n_step import NStep

_HOMES = {
    "FrameStorage": "tm_torchrl.data.frame_store",
    "MiniRace": "tm_torchrl.data.mini_race",
    "NStep": "tm_torchrl.data.n_step",
}

__all__ = ["FrameStorage", "MiniRace", "NStep"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
