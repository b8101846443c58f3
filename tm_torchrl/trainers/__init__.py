"""Training: where everything meets. Imports torch only when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.trainers.checkpoint import CheckpointError, Checkpoints

_HOMES = {
    "checkpoint": ("CheckpointError", "Checkpoints"),
}
_FILE_OF = {name: file for file, names in _HOMES.items() for name in names}

__all__ = [
    "CheckpointError",
    "Checkpoints",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_FILE_OF[name]}"), name)
