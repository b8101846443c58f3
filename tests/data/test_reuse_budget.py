"""Reuse budget: each transition is used as often as promised."""

from __future__ import annotations

import pytest

from tm_torchrl.data import ReuseBudget


def test_every_transition_is_used_as_often_as_promised() -> None:
    """64 new transitions at a time, batches of 100, 8 uses each: 5.12 updates a time, so 512 in 100 times."""
    budget, num_updates = ReuseBudget(uses_per_transition=8), 0
    for time in range(100):
        budget.earn(64)
        if time == 50:  # and across a restart
            state, budget = budget.state_dict(), ReuseBudget(uses_per_transition=8)
            budget.load_state_dict(state)
        for _ in range(budget.num_updates(100)):
            budget.spend(100)
            num_updates += 1
    assert num_updates == 512
    with pytest.raises(ValueError, match="uses_per_transition=0"):
        ReuseBudget(uses_per_transition=0)
