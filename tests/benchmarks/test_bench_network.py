"""The compared updates can be made."""

from __future__ import annotations

import pytest

from benchmarks.speeds.bench_network import COSTS, make_update


@pytest.mark.parametrize("name", COSTS)
def test_both_sides_of_a_cost_update(name: str) -> None:
    with_it, without, _ = COSTS[name]
    for overrides in (with_it, without):
        found = make_update(overrides, batch_size=2)()
        assert isinstance(found, dict) and bool(found["loss"].isfinite())
