"""Soft resets: move the weights a little towards new random ones, those of the last layers more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tm_torchrl.algorithms.quantile import QuantileAlgorithm
from tm_torchrl.modules import QuantileNetwork
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.trainers.training import Hook, Training


class SoftReset(Hook):
    """At regular intervals each weight becomes a mixture of itself and a new one (shrink and perturb, Ash 2020).

    The optimiser keeps its moments, the target network follows as always, and the replay allows extra updates.

    Args:
        make_network: Makes a new network of the same shape.
        every_frames: Frames between resets.
        share: Share of the new weights; 0.01 in Linesight.
        last_layer_share: Share of the new weights in the last layers of the head's streams; 0.8 in Linesight.
        extra_transitions: Uses of transitions that a reset adds to the replay's budget; 1.6 million in Linesight.
    """

    def __init__(
        self,
        make_network: Callable[[], QuantileNetwork],
        *,
        every_frames: int,
        share: float = 0.01,
        last_layer_share: float = 0.8,
        extra_transitions: int = 0,
    ) -> None:
        if every_frames < 1:
            raise ValueError(f"every_frames={every_frames}: must be at least 1")
        for name, value in (("share", share), ("last_layer_share", last_layer_share)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}={value}: must be between 0 and 1")
        self.make_network = make_network
        self.every_frames = every_frames
        self.share = share
        self.last_layer_share = last_layer_share
        self.extra_transitions = extra_transitions
        self.num_resets = 0

    def open(self, training: Training, run: RunFolder) -> None:
        """Raise ``ConfigError`` for an algorithm without a quantile network."""
        _quantile(training)

    def after_batch(self, training: Training) -> None:
        """Reset if one is due."""
        if training.frames // self.every_frames > self.num_resets:
            self.num_resets = training.frames // self.every_frames
            algorithm = _quantile(training)
            self.reset(algorithm.actor.quantile_module.network)
            algorithm.memory.budget.num_uses_left += self.extra_transitions

    @torch.no_grad()
    def reset(self, network: QuantileNetwork) -> None:
        """Mix the weights of a network with new ones."""
        fresh = dict(self.make_network().named_parameters())
        last = last_layers(network)
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:  # of a frozen part
                continue
            share = self.last_layer_share if name.rpartition(".")[0] in last else self.share
            parameter.lerp_(fresh[name].to(parameter.device), share)

    def state_dict(self) -> dict[str, Any]:
        """The number of resets."""
        return {"num_resets": self.num_resets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.num_resets = state["num_resets"]


def _quantile(training: Training) -> QuantileAlgorithm:
    if not isinstance(training.algorithm, QuantileAlgorithm):
        raise ConfigError(f"soft_reset: works with algorithm=quantile only, not {type(training.algorithm).__name__}")
    return training.algorithm


def last_layers(network: nn.Module) -> set[str]:
    """Names of the last layers of the head's streams (advantage and value)."""
    found = set()
    for name, module in network.named_modules():
        if isinstance(module, nn.Sequential) and name.rpartition(".")[2] in ("advantage", "value"):
            found.add(f"{name}.{len(module) - 1}")
    return found
