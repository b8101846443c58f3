"""TrackMania reinforcement learning as TorchRL components.

Importing the package imports no torch. Where gymnasium is installed it registers ``tm_torchrl/TrackMania-v0``, since
gymnasium looks for no plugins since version 1.0: ``import tm_torchrl`` first, or
``gymnasium.make("tm_torchrl:tm_torchrl/TrackMania-v0")``.

Examples:
    >>> import gymnasium
    >>> "tm_torchrl/TrackMania-v0" in gymnasium.registry
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy
from tm_torchrl.envs.registration import register as _register

if TYPE_CHECKING:
    from tm_torchrl.envs import TrackManiaEnv
    from tm_torchrl.tracks import Track, load_track
    from tm_torchrl.trainers import DPO, FQF, GRPO, IQN, PPO, QRDQN

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

_register()
