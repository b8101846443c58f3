"""Weights of an actor: of the best evaluation, or said to be others; of the kind that the network has, and finite."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tm_torchrl.data.saving import checkpoint
from tm_torchrl.data.saving.architecture import refuse_other_architecture
from tm_torchrl.data.saving.checkpoint import CheckpointError, Checkpoints
from tm_torchrl.data.saving.weights import actor_weights

MAKE_PIPE: Any = getattr(os, "mkfifo", Path.mkdir)  # Windows has no pipes among its files


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    found = Checkpoints(tmp_path)
    found.save({"actor": {"weight": torch.ones(2)}}, frames=100)
    return found


def test_the_best_or_the_latest(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    assert actor_weights(checkpoints)[0]["weight"].tolist() == [1.0, 1.0]
    checkpoints.save_best({"weight": torch.zeros(2)})
    assert actor_weights(checkpoints)[0]["weight"].tolist() == [0.0, 0.0]
    assert actor_weights(checkpoints, which="latest")[1]["frames"] == 100
    assert not caplog.records


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
@pytest.mark.parametrize("make", [MAKE_PIPE, lambda path: path.write_bytes(b"x")], ids=["pipe", "text"])
def test_a_damaged_best_is_told(
    checkpoints: Checkpoints, name: str, make: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_READ_TRIES", 1)
    path = checkpoints.save_best({"weight": torch.zeros(2)}) / name
    path.unlink()
    make(path)
    with caplog.at_level(logging.WARNING):
        assert actor_weights(checkpoints)[1]["frames"] == 100
    assert "the best network cannot be read, so the latest one is taken" in caplog.text
    assert str(path) in caplog.text


@pytest.mark.parametrize("best", [[torch.zeros(2)], {"weight": "text"}, {"weight": [1.0, 2.0]}], ids=str)
@pytest.mark.parametrize("which", ["best", "latest"])
def test_other_things_than_tensors(tmp_path: Path, best: Any, which: Any) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"actor": best}, frames=100)
    checkpoints.save_best(best)
    with pytest.raises(CheckpointError, match="does not hold the weights of a network"):
        actor_weights(checkpoints, which=which)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight.long(), r"weight \[2, 4\] here, \[2, 4\] of int64 there"),
        (lambda weight: weight > 0, r"weight \[2, 4\] here, \[2, 4\] of bool there"),
        (lambda weight: weight.to(torch.complex64), r"weight \[2, 4\] here, \[2, 4\] of complex64 there"),
        (lambda weight: weight * float("nan"), "not finite in 1 tensors, such as weight"),
        (lambda weight: weight / 0.0, "not finite in 1 tensors, such as weight"),
    ],
)
def test_weights_of_another_kind_are_refused(change: Any, message: str) -> None:
    network = nn.Linear(4, 2)
    refuse_other_architecture(network, {**network.state_dict(), "weight": network.weight.detach().bfloat16()})
    with pytest.raises(CheckpointError, match=message):
        refuse_other_architecture(network, {**network.state_dict(), "weight": change(network.weight.detach())})
