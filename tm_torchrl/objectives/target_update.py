"""Updates of target networks: a small step at every update, or a copy after a number of updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchrl.objectives.common import LossModule
from torchrl.objectives.utils import TargetNetUpdater


class Pair(NamedTuple):
    """Tensors of the target network, and the corresponding tensors of the online network."""

    targets: list[Tensor]
    sources: list[Tensor]


class TargetUpdate(TargetNetUpdater):
    """Pairs the parameters and buffers of a loss's target network with those of its online network.

    The target network is made equal to the online network at construction. Tensors are looked up at every step, so the
    loss may be moved to another device. TorchRL 0.14's updaters walk nested TensorDicts, which slows down a small
    network's update, and never update buffers (such as the statistics of a normalisation).

    Args:
        loss_module: A loss with a target network.
    """

    def __init__(self, loss_module: LossModule) -> None:
        # Not TorchRL's constructor, which keeps tensors.
        self.loss_module = loss_module
        children = [name for name, _ in loss_module.named_children()]
        self._target_names = [name for name in children if name.startswith("target_") and name.endswith("_params")]
        self._source_names = [name.removeprefix("target_") for name in self._target_names]
        if not self._target_names:
            raise ValueError(f"{type(loss_module).__name__} has no target network; construct it with delay_value=True")
        for name in self._source_names:
            loss_module._has_update_associated[name.removesuffix("_params")] = True
        self.init_()
        self.initialized = True

    def _side_by_side(self) -> tuple[Pair, Pair]:
        """The parameters and the buffers, without the noise of noisy layers, which each network draws for itself."""
        parameters, buffers = Pair([], []), Pair([], [])
        for of_source, of_target in zip(self._source_names, self._target_names, strict=True):
            source, target = getattr(self.loss_module, of_source), getattr(self.loss_module, of_target)
            targets = dict(target.named_buffers(remove_duplicate=False))  # the target's parameters are buffers, too
            for pair, own in ((parameters, source.named_parameters), (buffers, source.named_buffers)):
                for key, value in own(remove_duplicate=False):
                    if not key.endswith("_epsilon"):
                        pair.targets.append(targets[key])
                        pair.sources.append(value)
        return parameters, buffers

    @torch.no_grad()
    def init_(self) -> None:
        """Make the target network equal to the online network."""
        for pair in self._side_by_side():
            _copy(pair)

    def state_dict(self) -> dict[str, Any]:
        """State that is not part of the loss."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, also of TorchRL's updater."""


def _copy(pair: Pair) -> None:
    if pair.targets:  # PyTorch raises an error for empty lists
        torch._foreach_copy_(*pair)


class SoftUpdate(TargetUpdate):
    """Moves the target network a share ``tau`` of the way to the online network at every ``step()``; copies buffers.

    Args:
        loss_module: A loss with a target network.
        eps: 1 - ``tau``, TorchRL's other name for it.
        tau: The share of the way; 1 copies.

    Examples:
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> from tm_torchrl.objectives import IQNLoss
        >>> loss = IQNLoss(MLPIQNetwork(4, 2), action_space="categorical")
        >>> updater = SoftUpdate(loss, tau=0.01)
        >>> updater.step()
    """

    def __init__(self, loss_module: LossModule, *, eps: float | None = None, tau: float | None = None) -> None:
        given = {name: share for name, share in (("tau", tau), ("eps", eps)) if share is not None}
        if len(given) != 1:
            raise ValueError(f"tau={tau}, eps={eps}: give one of them")
        ((name, share),) = given.items()
        if not 0 <= share <= 1:
            raise ValueError(f"{name}={share}: must be between 0 and 1")
        super().__init__(loss_module)
        self.tau = share if name == "tau" else 1 - share

    @torch.no_grad()
    def step(self) -> None:
        """Update the target network; call it after each optimisation step."""
        parameters, buffers = self._side_by_side()
        torch._foreach_lerp_(*parameters, self.tau)
        _copy(buffers)


class HardUpdate(TargetUpdate):
    """Copies parameters and buffers of the online network to the target network at every ``period``-th ``step()``.

    TorchRL 0.14's class of this name copies at every (N + 1)-th step.

    Args:
        loss_module: A loss with a target network.
        value_network_update_interval: TorchRL's name for ``period``.
        period: The number of steps from one copy to the next.

    Examples:
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> from tm_torchrl.objectives import IQNLoss
        >>> updater = HardUpdate(IQNLoss(MLPIQNetwork(4, 2), action_space="categorical"), period=2)
        >>> [updater.step() for _ in range(4)]
        [False, True, False, True]
    """

    def __init__(
        self,
        loss_module: LossModule,
        *,
        value_network_update_interval: int | None = None,
        period: int | None = None,
    ) -> None:
        given = [interval for interval in (value_network_update_interval, period) if interval is not None]
        if len(given) != 1:
            raise ValueError(
                f"value_network_update_interval={value_network_update_interval}, period={period}: give one of them"
            )
        if given[0] < 1:
            raise ValueError(f"period={given[0]}: must be at least 1")
        super().__init__(loss_module)
        self.period = given[0]
        self.counter = 0

    def step(self) -> bool:
        """Count an optimisation step and return whether the online network was copied."""
        self.counter += 1
        if self.counter < self.period:
            return False
        self.counter = 0
        self.init_()
        return True

    def state_dict(self) -> dict[str, Any]:
        """The number of steps since the last copy."""
        return {"counter": self.counter}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self.counter = int(state_dict["counter"])
