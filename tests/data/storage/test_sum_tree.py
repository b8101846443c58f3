"""Block trees against lists of numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tm_torchrl.data.storage.sum_tree import MinTree, SumTree

SIZE = 600_000  # four levels; the scan goes through the lower two
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


@pytest.mark.parametrize("size", [3, 64, 65, 5000, 300_000])
def test_masses_at_the_edge_find_a_number_above_0(size: int) -> None:
    """Numbers over 20 decades, then zeros: sums lose the small beside the large, and a mass may round to the whole."""
    tree = SumTree(size)
    num = max(1, size // 3)
    tree[torch.arange(num)] = 10.0 ** torch.linspace(-8, 12, num, dtype=torch.float64)
    total = tree.query(0, size)
    mass = torch.cat(
        [
            torch.tensor([0.0, total, 2 * total, np.nextafter(total, 0), total * (1 + 1e-15)], dtype=torch.float64),
            *(level.reshape(-1).cumsum(0)[:2000] for level in tree.levels),  # borders between blocks
        ]
    )
    found = tree.scan_lower_bound(mass)
    assert (tree[found] > 0).all()
    assert found[:3].tolist() == [0, num - 1, num - 1]


def test_masses_just_below_the_end_of_a_block_stay_in_it() -> None:
    """A block's sum and the last of its running sums are rounded differently; the next block is empty here."""
    tree = SumTree(64 * 200)
    num_rounded_up = 0
    for seed in range(100):
        values = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        tree[torch.arange(64)] = values
        total = tree.levels[1][0, :1]
        assert 0 <= int(tree.scan_lower_bound(torch.nextafter(total, torch.zeros(1)))) < 64
        num_rounded_up += bool(torch.nextafter(total, torch.zeros(1)) >= values.cumsum(0)[-1])
    assert num_rounded_up > 10


def test_an_empty_tree_and_an_empty_update() -> None:
    tree = SumTree(5000)
    tree[torch.zeros(0, dtype=torch.int64)] = torch.zeros(0)
    assert tree.query(0, 5000) == 0
    with pytest.raises(ValueError, match="all numbers of the tree are 0"):
        tree.scan_lower_bound(torch.tensor([0.0]))


def test_the_last_of_many_values_for_one_index_stays() -> None:
    sums, minima = SumTree(SIZE), MinTree(SIZE)
    index = torch.arange(100).repeat(1000)
    value = torch.rand(100_000, dtype=torch.float64)
    for tree in (sums, minima):
        tree[index] = value
        assert torch.equal(tree[:100], value[-100:])
    assert sums.query(0, SIZE) == pytest.approx(float(value[-100:].sum()), rel=1e-12)
    assert minima.query(0, SIZE) == float(value[-100:].min())


def test_errors() -> None:
    with pytest.raises(ValueError, match="size=0"):
        SumTree(0)
    with pytest.raises(IndexError, match="index from 3 to 10"):
        SumTree(10)[torch.tensor([3, 10])] = torch.ones(2)
