"""Environments: ``TrackManiaEnv`` for TorchRL and the same for gymnasium. Names are imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.envs.episode_groups import grouped
    from tm_torchrl.envs.gym_env import TrackManiaGymEnv, TrackManiaVectorEnv
    from tm_torchrl.envs.trackmania import TrackManiaEnv

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
