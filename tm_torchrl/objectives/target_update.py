"""Hard updates of the target network with the period that was asked for."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDict
from torchrl.objectives.common import LossModule


class HardUpdate:
    """Copies parameters and buffers of the online network to the target network at every ``period``-th ``step()``.

    TorchRL 0.14's class of this name has the period N + 1 and leaves buffers (running statistics) as they were at
    construction. The noise of noisy layers is not copied: each network draws its own.

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
        self.loss = loss
        self.period = period
        self.counter = 0
        names = [name.removeprefix("target_") for name in dict(loss.named_children()) if name.startswith("target_")]
        self._pairs = [(name, f"target_{name}") for name in names if name.endswith("_params")]
        if not self._pairs:
            raise ValueError(f"{type(loss).__name__} has no target network; construct it with delay_value=True")
        for name, _ in self._pairs:
            loss._has_update_associated[name.removesuffix("_params")] = True

    def step(self) -> bool:
        """Count one optimisation step; returns whether the target network was copied."""
        self.counter += 1
        if self.counter < self.period:
            return False
        self.counter = 0
        self.copy()
        return True

    def copy(self) -> None:
        """Make the target network equal to the online network now."""
        for source_name, target_name in self._pairs:
            source: TensorDict = getattr(self.loss, source_name).data
            target: TensorDict = getattr(self.loss, target_name).data
            for key, value in target.items(True, True):
                last = key[-1] if isinstance(key, tuple) else key
                if not last.endswith("_epsilon"):
                    value.copy_(source.get(key))

    def state_dict(self) -> dict[str, Any]:
        """Where in the period it is."""
        return {"counter": self.counter}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.counter = int(state_dict["counter"])
