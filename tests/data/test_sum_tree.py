"""Block trees against lists of numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tm_torchrl.data.sum_tree import MinTree, SumTree

SIZE = 5000  # three levels
UPDATES = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.floats(0, 1e6, allow_nan=False, width=32)), min_size=1, max_size=30
)


@settings(max_examples=60, deadline=None)
@given(st.lists(UPDATES, min_size=1, max_size=4))
def test_trees_agree_with_lists(rounds: list) -> None:
    sums, minima = SumTree(SIZE), MinTree(SIZE)
    numbers: dict[int, float] = {}
    for updates in rounds:
        index, value = (torch.tensor(column) for column in zip(*updates, strict=True))
        sums[index], minima[index] = value, value
        numbers.update(updates)  # of several for one index the last counts
    assert sums.query(0, SIZE) == pytest.approx(sum(numbers.values()), rel=1e-12)
    assert minima.query(0, SIZE) == min(numbers.values())
    middle = SIZE // 2
    assert sums.query(10, middle) == pytest.approx(
        sum(value for i, value in numbers.items() if 10 <= i < middle), rel=1e-12
    )
    assert sums[torch.tensor(list(numbers))].tolist() == list(numbers.values())


@settings(max_examples=60, deadline=None)
@given(UPDATES, st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_scan_finds_the_first_running_sum_above(updates: list, shares: list) -> None:
    tree = SumTree(SIZE)
    index, value = (torch.tensor(column) for column in zip(*updates, strict=True))
    # Whole numbers, so that running sums are exact.
    tree[index] = value.round()
    running = np.cumsum(tree[:].numpy())
    if running[-1] == 0:
        return
    mass = torch.tensor(shares, dtype=torch.float64) * running[-1]
    assert tree.scan_lower_bound(mass).tolist() == np.searchsorted(running, mass.numpy(), side="right").tolist()


def test_sums_do_not_drift() -> None:
    """A number 1e17 that comes and goes would swallow the small ones if sums were corrected by differences."""
    tree = SumTree(SIZE)
    tree[torch.arange(SIZE)] = torch.ones(SIZE)
    for _ in range(10):
        tree[torch.tensor([7])] = torch.tensor([1e17], dtype=torch.float64)
        tree[torch.tensor([7])] = torch.tensor([1.0])
    assert tree.query(0, SIZE) == SIZE


def test_rebuild_sets_all() -> None:
    tree, other = MinTree(SIZE), MinTree(SIZE)
    values = torch.rand(700, dtype=torch.float64)
    tree[torch.tensor([4000])] = torch.tensor([-5.0])
    tree.rebuild(values)
    other[torch.arange(700)] = values
    assert all(torch.equal(a, b) for a, b in zip(tree.levels, other.levels, strict=True))


def test_errors() -> None:
    with pytest.raises(ValueError, match="size=0"):
        SumTree(0)
    with pytest.raises(IndexError, match="between 3 and 10; the tree has 10"):
        SumTree(10)[torch.tensor([3, 10])] = torch.ones(2)
