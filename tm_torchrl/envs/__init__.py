"""Environments: ``TrackManiaEnv`` for TorchRL, gymnasium ids, rewards and transforms. Imports torch only when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.envs.gym_env import TrackManiaGymEnv, TrackManiaVectorEnv
    from tm_torchrl.envs.trackmania import TrackManiaEnv

_HOMES = {
    "TrackManiaEnv": "tm_torchrl.envs.trackmania",
    "TrackManiaGymEnv": "tm_torchrl.envs.gym_env",
    "TrackManiaVectorEnv": "tm_torchrl.envs.gym_env",
}

__all__ = ["TrackManiaEnv", "TrackManiaGymEnv", "TrackManiaVectorEnv"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
