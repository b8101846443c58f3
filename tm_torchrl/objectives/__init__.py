"""Losses as TorchRL loss modules, their value estimators and their maths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.objectives.cloning import CloningLoss
    from tm_torchrl.objectives.demonstration_margin import DemonstrationMargin
    from tm_torchrl.objectives.dpo import DPOLoss
    from tm_torchrl.objectives.dqn import DQNLoss
    from tm_torchrl.objectives.fqf import FQFLoss
    from tm_torchrl.objectives.grpo import GRPOLoss
    from tm_torchrl.objectives.iqn import IQNLoss
    from tm_torchrl.objectives.ppo import PPOLoss
    from tm_torchrl.objectives.pretraining import AutoencoderLoss, SimCLRLoss, VAELoss
    from tm_torchrl.objectives.qrdqn import QRDQNLoss
    from tm_torchrl.objectives.self_loss import SelfLossNormalizer
    from tm_torchrl.objectives.target_update import HardUpdate, SoftUpdate
    from tm_torchrl.objectives.value_estimators import (
        DoubleEstimator,
        GreedyEstimator,
        MunchausenEstimator,
        QuantileEstimator,
        QuantileEstimators,
        SoftEstimator,
    )

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
