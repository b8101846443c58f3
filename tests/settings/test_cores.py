"""How many threads an update uses."""

from __future__ import annotations

import pytest
import torch

from tm_torchrl.settings import cores

SMALL, LARGE = [torch.zeros(9, 9)], [torch.zeros(400, 300)]


@pytest.mark.parametrize(
    ("asked", "weights", "policy", "num_cores", "expected"),
    [
        (1, LARGE, "PASSIVE", 2, 1),
        (3, SMALL, "", 1, 3),
        ("auto", LARGE, "passive", 2, 2),
        ("auto", LARGE, "PASSIVE", 8, 2),
        ("auto", LARGE, "PASSIVE", 1, 1),
        ("auto", LARGE, "ACTIVE", 2, 1),
        ("auto", LARGE, None, 2, 1),
        ("auto", SMALL, "PASSIVE", 2, 1),
    ],
)
def test_threads(
    asked: int, weights: list, policy: str | None, num_cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: num_cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert cores.choose_threads(asked, weights) == expected


def test_a_limit_of_threads_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as OMP_NUM_THREADS=1 makes it
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert cores.choose_threads("auto", LARGE) == 1
