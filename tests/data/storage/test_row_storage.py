"""RowStorage against TorchRL's storage, whose answers it must give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import NonTensorData, TensorDict
from torchrl.data import LazyTensorStorage

from tm_torchrl.data import RowStorage

CAPACITY = 6


def rows(num: int) -> TensorDict:
    return TensorDict(
        {
            "x": torch.arange(num),
            "pair": torch.arange(2.0 * num).view(num, 2),
            "next": {"flag": torch.arange(num) % 2 == 0, "deep": {"y": torch.arange(num) / 3}},
        },
        [num],
    )


def pair_of(num: int) -> tuple[RowStorage, LazyTensorStorage]:
    made = RowStorage(CAPACITY), LazyTensorStorage(CAPACITY)
    for storage in made:
        storage.set(range(num), rows(num))
    return made


@given(num=st.integers(1, CAPACITY), data=st.data())
def test_lists_of_rows_as_torchrls(num: int, data: st.DataObject) -> None:
    index = torch.tensor(data.draw(st.lists(st.integers(-num, num - 1), max_size=9)), dtype=torch.int64)
    ours, theirs = (storage.get(index) for storage in pair_of(num))
    assert (ours.batch_size, ours.device, ours.is_locked) == (theirs.batch_size, theirs.device, theirs.is_locked)
    assert sorted(map(str, ours.keys(True, True))) == sorted(map(str, theirs.keys(True, True)))
    assert (ours == theirs).all() and ours["next", "deep"].batch_size == ours.batch_size


@pytest.mark.parametrize(
    "index",
    [2, slice(1, 3), torch.tensor([True, False, True]), torch.tensor([[0, 1], [2, 0]]), [2, 0], torch.tensor(1)],
    ids=str,
)
def test_other_indices_as_torchrls(index: Any) -> None:
    ours, theirs = (storage.get(index) for storage in pair_of(3))
    assert ours.batch_size == theirs.batch_size and (ours == theirs).all()


def test_rows_of_several_axes_as_torchrls() -> None:
    """A lane of steps in each row; nested tensordicts have an axis more."""
    made = RowStorage(CAPACITY), LazyTensorStorage(CAPACITY)
    for storage in made:
        inner = TensorDict({"y": torch.arange(24.0).view(3, 4, 2)}, [3, 4, 2])
        storage.set(range(3), TensorDict({"x": torch.arange(12).view(3, 4), "inner": inner}, [3, 4]))
    ours, theirs = (storage.get(torch.tensor([2, 0, 2])) for storage in made)
    assert ours.batch_size == theirs.batch_size == (3, 4)
    assert ours["inner"].batch_size == theirs["inner"].batch_size == (3, 4, 2)
    assert (ours == theirs).all() and ours[:, -1]["x"].tolist() == [11, 3, 11]


@pytest.mark.parametrize("row", [3, -4], ids=["behind the filled rows", "before the first"])
def test_rows_that_are_not_there(row: int) -> None:
    for storage in pair_of(3):
        with pytest.raises(IndexError):
            storage.get(torch.tensor([0, row]))
    with pytest.raises(RuntimeError, match="non-initialized"):
        RowStorage(CAPACITY).get(torch.tensor([0]))


def test_samples_are_copies() -> None:
    storage, _ = pair_of(3)
    taken = storage.get(torch.tensor([0, 1]))
    taken["x"].fill_(-1)
    taken["next", "new"] = torch.zeros(2)
    assert storage.get(torch.tensor([0, 1]))["x"].tolist() == [0, 1]
    assert ("next", "new") not in storage.get(torch.tensor([0])).keys(True)


def test_what_is_not_a_tensor() -> None:
    taken = []
    for storage in (RowStorage(CAPACITY), LazyTensorStorage(CAPACITY)):
        storage.set(range(2), TensorDict({"x": torch.arange(2), "name": NonTensorData("car", batch_size=[2])}, [2]))
        taken.append(storage.get(torch.tensor([1, 0])))
    assert taken[0]["x"].tolist() == [1, 0] and list(taken[0]["name"]) == list(taken[1]["name"]) == ["car", "car"]
    plain = RowStorage(CAPACITY)
    plain.set(range(2), torch.arange(2))
    assert plain.get(torch.tensor([1, 0])).tolist() == [1, 0]
