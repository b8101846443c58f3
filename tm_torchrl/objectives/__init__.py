"""Losses of the quantile family as TorchRL loss modules, their value estimators and their maths."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.objectives.dqn import DQNLoss
    from tm_torchrl.objectives.fqf import FQFLoss
    from tm_torchrl.objectives.iqn import IQNLoss
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

_HOMES = {
    "DQNLoss": "dqn",
    "DoubleEstimator": "value_estimators",
    "FQFLoss": "fqf",
    "GreedyEstimator": "value_estimators",
    "HardUpdate": "target_update",
    "IQNLoss": "iqn",
    "MunchausenEstimator": "value_estimators",
    "QRDQNLoss": "qrdqn",
    "QuantileEstimator": "value_estimators",
    "QuantileEstimators": "value_estimators",
    "SelfLossNormalizer": "self_loss",
    "SoftEstimator": "value_estimators",
    "SoftUpdate": "target_update",
}

__all__ = [
    "DQNLoss",
    "DoubleEstimator",
    "FQFLoss",
    "GreedyEstimator",
    "HardUpdate",
    "IQNLoss",
    "MunchausenEstimator",
    "QRDQNLoss",
    "QuantileEstimator",
    "QuantileEstimators",
    "SelfLossNormalizer",
    "SoftEstimator",
    "SoftUpdate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
