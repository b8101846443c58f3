"""Evaluations and fastest laps in the run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tm_torchrl.evaluation import Laps
from tm_torchrl.record.run_folder import RunFolder, best_laps, load_lap, read_evaluations
from tm_torchrl.tracks import load_track
from tm_torchrl.trainers.hooks.keep_results import keep_results

LAPS = Laps(
    track=load_track("oval"),
    times_s=np.array([30.0, np.nan]),
    end_causes=np.array([1, 2]),
    progress_m=np.array([500.0, 20.0]),
    returns=np.array([5.0, 0.0]),
    checkpoint_times_s=np.full((2, 1), np.nan),
    action_swaps=np.zeros(2),
    rows=np.zeros((4, 5), np.float32),
    actions=np.array([0, 1, 2]),
    observations=np.ones((3, 6), np.float32),
    start=np.zeros(1, np.uint8),
)


def training(*in_keys: str) -> Any:
    """The algorithm explains a lap by the sums of its observations."""
    algorithm = SimpleNamespace(explain=lambda observations, actions: {"sums": observations.sum(-1) + actions})
    return SimpleNamespace(task=SimpleNamespace(in_keys=list(in_keys)), algorithm=algorithm)


def row(laps: Laps) -> dict[str, Any]:
    return {"track": "oval", "frames": 10, "laps": laps}


def test_only_a_faster_lap_replaces_the_one_that_is_there(tmp_path: Path) -> None:
    keep = keep_results(RunFolder(tmp_path), log=pytest.fail)
    for times, fastest in ((30.0, "oval_30000"), (31.0, "oval_30000"), (np.nan, "oval_30000"), (29.5, "oval_29500")):
        keep(training("observation"), [row(replace(LAPS, times_s=np.array([times])))], True)
        assert [path.stem for path in best_laps(tmp_path).values()] == [fastest]
    assert read_evaluations(tmp_path) == [{"track": "oval", "frames": 10}] * 4, "all rows, without their laps"


def test_a_lap_is_saved_with_what_the_algorithm_says_of_it(tmp_path: Path) -> None:
    keep_results(RunFolder(tmp_path), log=pytest.fail)(training("observation"), [row(LAPS)], True)
    lap = load_lap(best_laps(tmp_path)["oval"])
    assert lap["sums"].tolist() == [6.0, 7.0, 8.0]
    assert lap["actions"].tolist() == [0, 1, 2]
    assert best_laps(tmp_path)["oval"].with_suffix(".inputs").exists()


def test_a_network_that_sees_images_explains_nothing(tmp_path: Path) -> None:
    """Laps store only the floats."""
    keep_results(RunFolder(tmp_path), log=pytest.fail)(training("pixels", "observation"), [row(LAPS)], True)
    assert "sums" not in load_lap(best_laps(tmp_path)["oval"])


def test_a_full_disk_costs_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("tm_torchrl.record.run_folder.append_line", full)
    messages: list[str] = []
    keep_results(RunFolder(tmp_path), log=messages.append)(training("observation"), [row(LAPS)], True)
    assert messages == ["an evaluation could not be written: No space left on device; training continues"]
