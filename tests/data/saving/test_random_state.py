"""Random generators: what was drawn after a saved state is drawn again."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tm_torchrl.data.saving.plain_state import load_state, state_to_bytes
from tm_torchrl.data.saving.random_state import random_state, restore_random_state


def draw() -> list[float]:
    """A normal draw leaves Python's and numpy's generators with a second number in store."""
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),  # noqa: NPY002
        float(np.random.randn()),  # noqa: NPY002
        *torch.rand(3).tolist(),
        *torch.randn(20).tolist(),
    ]


@pytest.mark.parametrize("num_before", [0, 1, 7])
def test_everything_is_drawn_again_after_a_file(tmp_path: Path, num_before: int) -> None:
    for _ in range(num_before):
        draw()
    (tmp_path / "state.pt").write_bytes(state_to_bytes(random_state()))
    expected = [draw() for _ in range(3)]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert draw() != expected[0]
    restore_random_state(load_state(tmp_path / "state.pt"))
    assert [draw() for _ in range(3)] == expected


def test_a_state_is_a_copy() -> None:
    state = random_state()
    first = draw()
    restore_random_state(state)
    restore_random_state(state)
    assert draw() == first


def test_devices_that_are_missing_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    state = random_state()
    first = draw()
    with caplog.at_level(logging.WARNING):
        restore_random_state({**state, "cuda": [torch.zeros(16, dtype=torch.uint8)] * 99})
    assert "of 99 CUDA devices" in caplog.text
    assert draw() == first


@pytest.mark.gpu
def test_cuda_is_drawn_again() -> None:
    torch.rand(3, device="cuda")
    state = random_state()
    first = torch.rand(3, device="cuda")
    restore_random_state(state)
    assert torch.equal(torch.rand(3, device="cuda"), first)
