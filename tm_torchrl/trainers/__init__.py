"""Training: the loop, its state, its hooks and the command that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.trainers.run import train
    from tm_torchrl.trainers.summary import Summary
    from tm_torchrl.trainers.trainable import DPO, FQF, GRPO, IQN, PPO, QRDQN
    from tm_torchrl.trainers.training import Hook, Training

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
