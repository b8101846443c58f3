"""The reference policy of GRPO and DPO: a frozen copy that is renewed from time to time."""

from __future__ import annotations

from typing import Any

from torch import nn

from tm_torchrl.modules.policy_value import PolicyValueNetwork


def policy_parameters(network: PolicyValueNetwork) -> list[nn.Parameter]:
    """All parameters but those of the value."""
    of_value = {id(parameter) for parameter in network.value.parameters()}
    return [parameter for parameter in network.parameters() if id(parameter) not in of_value]


class ReferenceUpdate:
    """Copies the network to the reference after a number of updates.

    Args:
        loss: Has a network and its frozen copy.
        period: Updates from one copy to the next; ``None`` for never.
    """

    def __init__(self, loss: Any, *, period: int | None) -> None:
        if period is not None and period < 1:
            raise ValueError(f"reference_period={period}: must be at least 1, or null for never")
        self.loss, self.period = loss, period
        self.counter = 0

    def init_(self) -> None:
        """Copy the network now: its weights were loaded after the loss was made."""
        if self.loss.reference is not None:
            self.loss.reference.load_state_dict(self.loss.network.state_dict())

    def step(self) -> None:
        """Called after each update."""
        if self.period is not None:
            self.counter = (self.counter + 1) % self.period
            if self.counter == 0:
                self.init_()

    def state_dict(self) -> dict[str, Any]:
        """The number of updates since the last copy."""
        return {"counter": self.counter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.counter = int(state["counter"])
