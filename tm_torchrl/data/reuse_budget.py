"""How many updates new transitions pay for."""

from __future__ import annotations


class ReuseBudget:
    """Each transition is used a given number of times, whatever the sizes of batches and of collections.

    Args:
        uses_per_transition: 32 in the Linesight agent.

    Examples:
        >>> budget = ReuseBudget(uses_per_transition=32)
        >>> budget.earn(num_transitions=64)
        >>> budget.num_updates(batch_size=512)
        4
        >>> budget.spend(batch_size=512)
        >>> budget.num_updates(batch_size=512)
        3
    """

    def __init__(self, *, uses_per_transition: float = 32) -> None:
        if not uses_per_transition > 0:
            raise ValueError(f"uses_per_transition={uses_per_transition}: must be positive")
        self.uses_per_transition = uses_per_transition
        self.num_uses_left = 0.0

    def earn(self, num_transitions: int) -> None:
        """New transitions came in."""
        self.num_uses_left += self.uses_per_transition * num_transitions

    def num_updates(self, batch_size: int) -> int:
        """Updates that can be paid for now."""
        return max(0, int(self.num_uses_left // batch_size))

    def spend(self, batch_size: int) -> None:
        """One update was made."""
        self.num_uses_left -= batch_size

    def state_dict(self) -> dict[str, float]:
        """What is left."""
        return {"num_uses_left": self.num_uses_left}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from there."""
        self.num_uses_left = float(state_dict["num_uses_left"])
