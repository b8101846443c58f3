"""Continuing a saved run: its state, its logs and its replay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.trainers.test_training import DRIVE, quiet
from tm_torchrl.data import ReplayLog
from tm_torchrl.record.run_folder import RunFolder, read_metrics
from tm_torchrl.settings import ConfigError, run_settings
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
    for changed, name in (
        ({"env": {**settings["env"], "action_block": 5}}, r"env\.action_block: 1 -> 5"),
        ({"estimator": {**settings["estimator"], "alpha": 0.5}}, r"estimator\.alpha: 0.9 -> 0.5"),
    ):
        with pytest.raises(ConfigError, match=rf"{name} cannot change"):
            saved_state(RunFolder(finished), {**settings, **changed}, log=messages.append)


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
