"""Tensors as arrays of bytes and back."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from tm_torchrl.collectors.on_ray.packing import packed, packed_batch, unpacked, unpacked_batch

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 3)], ids=str)
def test_every_type_and_shape_comes_back(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    before = torch.randint(0, 2, shape).to(dtype)
    after = unpacked(packed([("x", before)]))["x"]
    assert after.dtype == dtype and torch.equal(after, before)


def test_strided_tensors_and_parameters_come_back_in_memory_of_their_own() -> None:
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    arrays = packed([("w", weight), ("t", weight.T)])
    arrays["w"][2].flags.writeable = False  # as what Ray returns
    found = unpacked(arrays)
    assert torch.equal(found["t"], weight.T)
    found["w"].zero_()
    assert weight.sum() == 15.0


def test_packing_on_the_cpu_copies_nothing() -> None:
    pixels = torch.zeros(4, dtype=torch.uint8)
    (_, _, values) = packed([("pixels", pixels)])["pixels"]
    pixels[0] = 7
    assert values[0] == 7


def test_a_batch_comes_back_with_its_nested_keys() -> None:
    batch = TensorDict({"action": torch.ones(2, 3, dtype=torch.int64)}, [2, 3])
    batch["next", "done"] = torch.zeros(2, 3, 1, dtype=torch.bool)
    after = unpacked_batch(packed_batch(batch), num_lanes=2, num_steps=3)
    assert set(after.keys(True, True)) == {"action", ("next", "done")}
    assert (after == batch).all()
    assert after["next"].batch_size == (2, 3)
