"""Continuing a saved run: its state, its logs and its replay."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.trainers.test_interrupts import after
from tests.trainers.test_training import DRIVE, quiet
from tm_torchrl.algorithms.learner import Learner
from tm_torchrl.data import ReplayLog
from tm_torchrl.data.saving import atomic_files
from tm_torchrl.data.saving.checkpoint import CheckpointError, Checkpoints
from tm_torchrl.record.run_folder import RunFolder, read_metrics
from tm_torchrl.settings import ConfigError, compose_settings, run_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.resume import continue_from, saved_state
from tm_torchrl.trainers.run import make_training


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 256 frames, with rows at 128 and 256."""
    folder = tmp_path_factory.mktemp("resume") / "run"
    quiet([*DRIVE, "total_frames=256"], folder)
    return folder


def continued(folder: Path, messages: list[str]) -> tuple[int, int]:
    """Frames and stored transitions of a training that continues the run."""
    run, settings = RunFolder(folder), run_settings(folder)
    task = make_task(settings)
    training = make_training(settings, task)
    try:
        logs = {name: ReplayLog(run.replay / name) for name in training.algorithm.memory.contents()}
        state = saved_state(run, settings, log=messages.append)
        state["hooks"] = []  # this training has none
        continue_from(training, state, replay_logs=logs, run=run, log=messages.append)
        return training.frames, int(training.algorithm.memory.metrics()["replay_size"])
    finally:
        training.source.shutdown()
        task.close()


def test_changed_settings_are_shown_and_some_are_refused(finished: Path) -> None:
    settings, messages = run_settings(finished), []
    state = saved_state(RunFolder(finished), {**settings, "total_frames": 512}, log=messages.append)
    assert state["frames"] == 256
    assert "total_frames: 256 -> 512" in messages[0] and messages[1].startswith("resumed from frame 256")


def test_schedules_that_have_ended_are_named(finished: Path) -> None:
    given = {"learning_rate": ["linear", [0, 1e-3], [256, 1e-5]], "gamma": ["linear", [0, 0.9], [255, 0.99]]}
    settings, messages = {**run_settings(finished), **given}, []
    saved_state(RunFolder(finished), settings, log=messages.append)
    assert not any("keep their last values" in message for message in messages)
    saved_state(RunFolder(finished), {**settings, "total_frames": 512}, log=messages.append)
    assert any("end at 256 frames keep their last values from there: learning_rate;" in each for each in messages)
    given = {"learning_rate": given["gamma"], "gamma": ["linear", [0, 0.9], [256, 0.99]], "schedule_speed": 256 / 255}
    saved_state(RunFolder(finished), {**settings, **given, "total_frames": 512}, log=messages.append)
    assert any("from there: gamma, learning_rate;" in each for each in messages)


@pytest.mark.parametrize(
    "change",
    [
        "env.action_block=5",
        "env.track=hillside",
        "estimator.alpha=0.5",
        "exploration=boltzmann",
        "exploration.mean_steps=2",
        "replay.num_steps=5",
        "replay.held_out_share=0.2",
        "soft_reset={_target_: tm_torchrl.trainers.hooks.soft_reset.SoftReset, every_frames: 64, extra_transitions: 1}",
    ],
)
def test_what_cannot_change_is_refused_by_its_name(finished: Path, change: str) -> None:
    """Each begins with its old value, and nothing has been changed yet."""
    settings = compose_settings([*DRIVE, "total_frames=256", change])
    with pytest.raises(ConfigError, match=rf"{re.escape(change.partition('=')[0])}.*: .* -> .* cannot change"):
        saved_state(RunFolder(finished), settings, log=lambda message: None)


def test_a_smaller_replay_is_refused_and_the_run_keeps_its_settings(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = (run / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=r"replay\.capacity=5000: must be at least 300000"):
        quiet([*DRIVE, "total_frames=320", "replay.capacity=5000", f"resume='{run}'"], tmp_path / "ignored")
    assert (run / "config.yaml").read_text() == before
    quiet([*DRIVE, "total_frames=320", "replay.capacity=400000", f"resume='{run}'"], tmp_path / "ignored")
    assert run_settings(run)["replay"]["capacity"] == 400_000


def test_what_was_logged_after_the_checkpoint_is_removed(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    RunFolder(run).metrics.write(frames=300, seconds=9.0, values={})
    messages: list[str] = []
    assert continued(run, messages) == (256, 256 - 8 * 2), "the last two steps of 8 cars wait for their n-step sums"
    assert "replay restored: 240 transitions" in messages
    assert [row["frames"] for row in read_metrics(run)] == [128, 256]


def test_a_lost_replay_fills_again(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(run / "replay")
    messages: list[str] = []
    assert continued(run, messages) == (256, 0)
    assert messages[-1].startswith("the replay could not be restored")


def test_a_folder_that_somebody_deletes_can_be_resumed_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(Learner, "update", after(3, lambda: shutil.rmtree(run), Learner.update))
    quiet([*DRIVE, "total_frames=256", "checkpoint.keep_replay=true"], run)
    assert Checkpoints(run / "checkpoints").load()[1]["frames"] == 256
    messages: list[str] = []
    assert continued(run, messages) == (256, 240) and "replay restored: 240 transitions" in messages


@pytest.mark.parametrize("entry", [["x"], [["reward"], "load", [1]], [["reward"], "float32", ["x"]]], ids=str)
def test_a_replay_whose_manifest_makes_no_sense_fills_again(
    entry: list[object], finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    path = run / "replay" / "train" / "manifest.json"
    layout = {"rows": [entry], "frames": []}
    atomic_files.write_manifest(path, {**atomic_files.read_manifest(path, version=1), "layout": layout})
    messages: list[str] = []
    assert continued(run, messages) == (256, 0)
    assert messages[-1].startswith("the replay could not be restored")


@pytest.mark.parametrize("state", [5, {"frames": 256}, {"learner": {}}], ids=str)
def test_a_checkpoint_of_something_else_is_told(state: object, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    Checkpoints(run / "checkpoints").save(state, frames=300)
    with pytest.raises((ConfigError, CheckpointError), match=r"does not (hold the state|fit the settings)"):
        continued(run, [])
