"""Target networks that follow the online network: slowly at every step, or by a copy every so many steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchrl.objectives.common import LossModule


class Pair(NamedTuple):
    """Tensors of the target network, and those of the online network in the same order."""

    targets: list[Tensor]
    sources: list[Tensor]


class TargetUpdate:
    """The parameters and buffers of a loss's online and target networks, side by side.

    The target network is made equal to the online network at construction. Tensors are looked up anew at every step,
    so the loss may be moved to another device. TorchRL 0.14's updaters walk nested TensorDicts, which a small network's
    update is slower for, and leave buffers (statistics of a normalisation) as they were at construction.

    Args:
        loss: with a target network.
    """

    def __init__(self, loss: LossModule) -> None:
        self.loss = loss
        names = [name.removeprefix("target_") for name in dict(loss.named_children()) if name.startswith("target_")]
        self._names = [name for name in names if name.endswith("_params")]
        if not self._names:
            raise ValueError(f"{type(loss).__name__} has no target network; construct it with delay_value=True")
        for name in self._names:
            loss._has_update_associated[name.removesuffix("_params")] = True
        self.copy()

    def _side_by_side(self) -> tuple[Pair, Pair]:
        """Parameters of the target network and those that they follow; and buffers, but for the noise of noisy layers.

        Each network draws noise for itself.
        """
        parameters, buffers = Pair([], []), Pair([], [])
        for name in self._names:
            source, target = getattr(self.loss, name), getattr(self.loss, f"target_{name}")
            of_target = dict(target.named_buffers(remove_duplicate=False))  # its parameters are buffers, too
            for pair, own in ((parameters, source.named_parameters), (buffers, source.named_buffers)):
                for key, value in own(remove_duplicate=False):
                    if not key.endswith("_epsilon"):
                        pair.targets.append(of_target[key])
                        pair.sources.append(value)
        return parameters, buffers

    @torch.no_grad()
    def copy(self) -> None:
        """Make the target network equal to the online network now."""
        for pair in self._side_by_side():
            _copy(pair)

    def state_dict(self) -> dict[str, Any]:
        """What is not the loss's own."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""


def _copy(pair: Pair) -> None:
    if pair.targets:  # of none, PyTorch raises
        torch._foreach_copy_(*pair)


class SoftUpdate(TargetUpdate):
    """Moves the target network a share ``tau`` of the way to the online network at every ``step()``; copies buffers.

    Args:
        loss: with a target network.
        tau: share of the way; 1 copies.

    Examples:
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> from tm_torchrl.objectives import IQNLoss
        >>> loss = IQNLoss(MLPIQNetwork(4, 2), action_space="categorical")
        >>> updater = SoftUpdate(loss, tau=0.01)
        >>> updater.step()
    """

    def __init__(self, loss: LossModule, *, tau: float) -> None:
        if not 0 <= tau <= 1:
            raise ValueError(f"tau={tau}: a share of the way wanted, from 0 to 1")
        super().__init__(loss)
        self.tau = tau

    @torch.no_grad()
    def step(self) -> None:
        """After each optimisation step."""
        parameters, buffers = self._side_by_side()
        torch._foreach_lerp_(*parameters, self.tau)
        _copy(buffers)


class HardUpdate(TargetUpdate):
    """Copies parameters and buffers of the online network to the target network at every ``period``-th ``step()``.

    TorchRL 0.14's class of this name has the period N + 1.

    Args:
        loss: with a target network.
        period: number of steps between copies.

    Examples:
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> from tm_torchrl.objectives import IQNLoss
        >>> updater = HardUpdate(IQNLoss(MLPIQNetwork(4, 2), action_space="categorical"), period=2)
        >>> [updater.step() for _ in range(4)]
        [False, True, False, True]
    """

    def __init__(self, loss: LossModule, *, period: int) -> None:
        if period < 1:
            raise ValueError(f"period={period}: at least one step lies between copies")
        super().__init__(loss)
        self.period = period
        self.counter = 0

    def step(self) -> bool:
        """Count one optimisation step; returns whether the target network was copied."""
        self.counter += 1
        if self.counter < self.period:
            return False
        self.counter = 0
        self.copy()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Where in the period it is."""
        return {"counter": self.counter}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.counter = int(state_dict["counter"])
