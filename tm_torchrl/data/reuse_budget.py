"""How many updates new transitions allow."""

from __future__ import annotations


class ReuseBudget:
    """Uses each transition a given number of times on average, for any batch size and collection size.

    Args:
        uses_per_transition: Uses of each transition; 32 in Linesight.

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
        """Count new transitions."""
        self.num_uses_left += self.uses_per_transition * num_transitions

    def num_updates(self, batch_size: int) -> int:
        """Number of updates that are due now."""
        return max(0, int(self.num_uses_left // batch_size))

    def spend(self, batch_size: int) -> None:
        """Count one update."""
        self.num_uses_left -= batch_size

    def state_dict(self) -> dict[str, float]:
        """Number of uses that are left."""
        return {"num_uses_left": self.num_uses_left}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continue from a saved state."""
        self.num_uses_left = float(state_dict["num_uses_left"])
