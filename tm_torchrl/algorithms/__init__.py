"""Learning algorithms: what explores, remembers and learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.algorithms.algorithm import Algorithm
    from tm_torchrl.algorithms.cloning import CloningAlgorithm
    from tm_torchrl.algorithms.dpo import DPOAlgorithm
    from tm_torchrl.algorithms.grpo import GRPOAlgorithm
    from tm_torchrl.algorithms.learner import Learner, NonFiniteLossError
    from tm_torchrl.algorithms.make import make_actor, make_algorithm
    from tm_torchrl.algorithms.ppo import PPOAlgorithm
    from tm_torchrl.algorithms.pretraining import PretrainingAlgorithm
    from tm_torchrl.algorithms.quantile import QuantileAlgorithm

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
