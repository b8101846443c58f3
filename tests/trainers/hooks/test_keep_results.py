"""Evaluations and fastest laps in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tm_torchrl.evaluation import Laps
from tm_torchrl.evaluation.replays import replay
from tm_torchrl.record.ghosts import ghost_of
from tm_torchrl.record.run_folder import RunFolder, best_laps, load_lap, load_time, read_evaluations, read_lines
from tm_torchrl.sim import Simulator
from tm_torchrl.tasks.trackmania import TrackManiaTask
from tm_torchrl.tracks import BUILTIN_TRACKS, load_track
from tm_torchrl.tracks.medals import author_actions, medals_of
from tm_torchrl.trainers.hooks.keep_results import keep_results
from tm_torchrl.world.input_scripts import read_script

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
    algorithm = SimpleNamespace(
        actor=None, explain=lambda observations, actions: {"sums": observations.sum(-1) + actions}
    )
    task = SimpleNamespace(in_keys=list(in_keys), lap_from_start=lambda actor, laps: laps)
    return SimpleNamespace(task=task, algorithm=algorithm)


def row(laps: Laps) -> dict[str, Any]:
    return {"track": "oval", "frames": 10, "laps": laps}


def test_the_best_lap_of_every_evaluation_is_kept_by_its_keys(tmp_path: Path) -> None:
    keep = keep_results(RunFolder(tmp_path), log=pytest.fail)
    for time_s in (30.0, np.nan, 31.0):
        laps = replace(LAPS, times_s=np.array([time_s]), start=np.zeros(3, np.float32))
        keep(training("observation"), [row(laps)], True)
    ghosts = [ghost_of(found) for found in read_lines(tmp_path / "ghosts.jsonl")]
    assert [(ghost.time_s, ghost.frames) for ghost in ghosts] == [(30.0, 10), (None, 10), (31.0, 10)]
    assert ghosts[0].actions.tolist() == [0, 1, 2]


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
    assert best_laps(tmp_path, suffix=".inputs")["oval"].name == "oval_30000.inputs"


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


class Author:
    """A policy that knows the author's keys."""

    def __init__(self, track: str) -> None:
        actions = author_actions(track)
        assert actions is not None
        self.keys = iter(actions.tolist())

    def __call__(self, observation: torch.Tensor) -> torch.Tensor:
        return torch.tensor([next(self.keys)])


def drive_scripts(tracks: Sequence[str], run: Path) -> None:
    """The script that is kept of the author's lap finishes it again, to the millisecond."""
    for name in tracks:
        task = TrackManiaTask(track=name)
        laps: Any = task.lap_from_start(Author(name), replace(LAPS, track=load_track(name)))  # type: ignore[arg-type]
        algorithm = SimpleNamespace(actor=Author(name), explain=lambda *_: {})
        moment: Any = SimpleNamespace(task=task, algorithm=algorithm)
        keep_results(RunFolder(run), log=pytest.fail)(moment, [{"track": name, "frames": 10, "laps": laps}], True)
        script, medals = best_laps(run, suffix=".inputs")[name], medals_of(name)
        assert medals is not None
        again = replay(Simulator(load_track(name), num_cars=1), read_script(script))
        assert again.time_s == load_time(script) == medals.author_s


def test_a_kept_script_is_driven_again_from_the_start_line(tmp_path: Path) -> None:
    drive_scripts(["oval"], tmp_path)


@pytest.mark.slow
def test_kept_scripts_of_all_tracks_are_driven_again(tmp_path: Path) -> None:
    drive_scripts(BUILTIN_TRACKS, tmp_path)
