"""TrackMania reinforcement learning as TorchRL components.

Importing the package imports no torch. It registers ``tm_torchrl/TrackMania-v0`` with gymnasium, which looks for no
plugins since version 1.0: ``import tm_torchrl`` first, or ``gymnasium.make("tm_torchrl:tm_torchrl/TrackMania-v0")``.

Examples:
    >>> import gymnasium
    >>> "tm_torchrl/TrackMania-v0" in gymnasium.registry
    True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tm_torchrl.envs.registration import register as _register

if TYPE_CHECKING:
    from tm_torchrl.envs import TrackManiaEnv
    from tm_torchrl.tracks import Track, load_track
    from tm_torchrl.trainers import FQF, IQN, QRDQN

__version__ = "0.1.0"

__all__ = ["FQF", "IQN", "QRDQN", "Track", "TrackManiaEnv", "__version__", "load_track"]

_HOMES = {
    "FQF": "tm_torchrl.trainers",
    "IQN": "tm_torchrl.trainers",
    "QRDQN": "tm_torchrl.trainers",
    "Track": "tm_torchrl.tracks",
    "TrackManiaEnv": "tm_torchrl.envs",
    "load_track": "tm_torchrl.tracks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_register()
