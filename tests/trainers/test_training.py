"""The whole loop: repeatable, resumable bit for bit, interruptible, and never losing a run to a kill."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from tm_torchrl.agents import load_agent
from tm_torchrl.algorithms.learner import NonFiniteLossError
from tm_torchrl.data.saving.checkpoint import CheckpointError, Checkpoints
from tm_torchrl.record.run_folder import read_evaluations, read_metrics
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.trainers import train

SMALL = [
    "objective.network.hidden_sizes=[16,16]",
    "objective.network.head_size=16",
    "collector=single",
    "precision=float32",
    "log.tensorboard=false",
    "checkpoint.keep_replay=true",  # tests stop runs by their number of frames, and resume them
]
DRIVE = [
    *SMALL,
    "env.track=oval",
    "env.num_envs=8",
    "env.evaluation_limits.race_s=5",
    "collector.frames_per_batch=64",
    "replay.learning_starts=128",
    "replay.batch_size=16",
    "replay.uses_per_transition=1",
    "evaluation.every_frames=256",
    "evaluation.num=2",
    "log.every_frames=128",
    "log.diagnostics_every=1",
]
CARTPOLE = [
    "experiment=cartpole_iqn",
    *SMALL,
    "replay.learning_starts=128",
    "replay.uses_per_transition=2",
    "evaluation.every_frames=512",
    "evaluation.num=2",
    "log.every_frames=256",
]


def numbers(run: Path) -> list[dict[str, Any]]:
    """Metrics without what the clock and the machine say."""
    rows = read_metrics(run)
    return [
        {key: value for key, value in row.items() if not key.startswith(("seconds", "speed/", "memory/"))}
        for row in rows
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    state, _ = Checkpoints(run / "checkpoints").load()
    return dict(state["actor"])


def quiet(settings: list[str], folder: Path) -> Any:
    """Train without a report, which takes longer than these runs."""
    with mock.patch("tm_torchrl.trainers.run.write_report"):
        return train(settings, folder=folder, is_quiet=True)


@pytest.mark.parametrize("task", [DRIVE, CARTPOLE], ids=["drive", "cartpole"])
def test_the_same_seed_gives_the_same_metrics(task: list[str], tmp_path: Path) -> None:
    for name in ("one", "two"):
        quiet([*task, "total_frames=512"], tmp_path / name)
    quiet([*task, "total_frames=256", "seed=1"], tmp_path / "other")
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")
    other = numbers(tmp_path / "other")
    assert numbers(tmp_path / "one")[: len(other)] != other


@pytest.mark.parametrize("further", [[], ["replay=prioritized"], ["replay.held_out_share=0.2"]], ids=str)
def test_stop_and_resume_equals_an_uninterrupted_run(further: list[str], tmp_path: Path) -> None:
    settings = [*DRIVE, *further]
    quiet([*settings, "total_frames=512"], tmp_path / "whole")
    quiet([*settings, "total_frames=320"], tmp_path / "parts")
    quiet([*settings, "total_frames=512", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


@pytest.mark.parametrize("limits", [["race_s=0.4"], ["race_s=9", "no_progress_s=0.4"]], ids=["all cars", "some cars"])
def test_a_held_action_ends_with_its_episode_after_a_resume_too(limits: list[str], tmp_path: Path) -> None:
    """Episodes end after 8 steps, with a batch of 8 steps, while random actions are held for 50 steps."""
    held = ["exploration.epsilon=0.9", "exploration.mean_steps=50", *(f"env.limits.{limit}" for limit in limits)]
    quiet([*DRIVE, *held, "total_frames=384"], tmp_path / "whole")
    quiet([*DRIVE, *held, "total_frames=192"], tmp_path / "parts")
    quiet([*DRIVE, *held, "total_frames=384", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


def test_the_run_folder_tells_everything(tmp_path: Path) -> None:
    summary = train([*DRIVE, "total_frames=512"], folder=tmp_path / "run", is_quiet=True)
    assert summary.frames == 512
    run = summary.folder
    assert (run / "report.html").stat().st_size > 10_000
    facts = json.loads((run / "run.json").read_text())
    assert facts["seed"] == 0
    assert facts["packages"]["torch"] == torch.__version__
    assert [row["frames"] for row in read_evaluations(run)] == [256, 512]
    assert (run / "metrics.csv").read_text().startswith("frames,seconds,")
    agent = load_agent(run)
    assert agent.predict(torch.zeros(3, 184)).shape == (3,)
    assert agent.settings["env"]["track"] == "oval"


def test_workers_that_drive_on_their_own_train_are_saved_and_resume(tmp_path: Path) -> None:
    """Two workers of four cars and eight steps: batches of 32 frames."""
    run = tmp_path / "run"
    settings = [*DRIVE, "collector=multi_async", "collector.num_workers=2"]
    summary = quiet([*settings, "total_frames=512"], run)
    assert summary.frames == 512
    last = read_metrics(run)[-1]
    assert last["train/updates"] > 10
    assert 0 < last["train/replay_size"] <= 512
    state, _ = Checkpoints(run / "checkpoints").load()
    groups = {(start, stop) for start, stop, _ in state["memory"]["writers"]}
    assert groups and groups <= {(0, 4), (4, 8)}, "one may be slow to start"
    resumed = quiet([f"resume='{run}'", "total_frames=640"], run)
    assert resumed.frames == 640
    after, _ = Checkpoints(run / "checkpoints").load()
    assert (after["collector"]["episode_of_lane"] > state["collector"]["episode_of_lane"]).all(), "new episodes"


def test_settings_that_cannot_change_in_a_run_are_refused(tmp_path: Path) -> None:
    quiet([*DRIVE, "total_frames=128"], tmp_path / "run")
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(ConfigError, match=r"objective\.network\.head_size: 16 -> 8 cannot change"):
        quiet([*DRIVE, "objective.network.head_size=8", f"resume='{tmp_path / 'run'}'"], tmp_path / "x")
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before


def test_a_resumed_run_keeps_its_own_settings(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quiet([*DRIVE, "total_frames=256", "seed=7"], run)
    summary = quiet(["total_frames=320", f"resume='{run}'"], run)
    assert (summary.frames, summary.settings["seed"], summary.settings["env"]["track"]) == (320, 7, "oval")
    with pytest.raises(ConfigError, match="experiment=cartpole_iqn: a resumed run"):
        quiet(["experiment=cartpole_iqn", f"resume='{run}'"], run)


def test_resuming_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        quiet([*DRIVE, f"resume='{tmp_path / 'nothing'}'"], tmp_path / "x")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    quiet([*DRIVE, "total_frames=256"], run)
    quiet([*DRIVE, "total_frames=512", f"resume='{run}'"], run)
    newest = max((run / "checkpoints").glob("frames_*"))
    content = (newest / "state.pt").read_bytes()
    (newest / "state.pt").write_bytes(content[:1000] + b"\0" * 100 + content[1100:])
    summary = quiet([*DRIVE, "total_frames=640", f"resume='{run}'"], run)
    assert "damaged checkpoint is skipped" in caplog.text
    assert summary.frames == 640


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quiet([*DRIVE, "total_frames=256"], run)
    with pytest.raises(NonFiniteLossError, match="lower learning_rate"):
        quiet([*DRIVE, "total_frames=100000", "learning_rate=1e30", "learner.max_skipped=3", f"resume='{run}'"], run)
    assert load_agent(run, which="latest").predict(torch.zeros(184)).shape == ()


def test_a_run_that_learnt_nothing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("tm_torchrl.trainers.hooks.display.Display.say", lambda self, message: said.append(message))
    quiet([*DRIVE, "total_frames=64", "replay.learning_starts=65"], tmp_path / "run")
    assert any("nothing was learnt" in message for message in said)
    said.clear()
    quiet([*DRIVE, "total_frames=128", "replay.learning_starts=64"], tmp_path / "learns")
    assert not any("nothing was learnt" in message for message in said)


def test_a_full_disk_costs_messages_but_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither checkpoints nor metrics nor the replay can be written; the older checkpoint stays."""
    run = tmp_path / "run"
    quiet([*DRIVE, "total_frames=256"], run)
    before = Checkpoints(run / "checkpoints").load()[1]["frames"]

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    said: list[str] = []
    monkeypatch.setattr("tm_torchrl.trainers.hooks.display.Display.say", lambda self, message: said.append(message))
    monkeypatch.setattr("tm_torchrl.record.run_folder.append_line", full)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match=r"frames_000000000000 could not be written to .*other"):
        quiet(DRIVE, tmp_path / "other")
    said.clear()
    summary = quiet([*DRIVE, "total_frames=512", f"resume='{run}'"], run)
    assert summary.frames == 512
    assert re.search(r"^NOT SAVED: the checkpoint .*; the replay could not be saved", str(summary), re.MULTILINE)
    text = "\n".join(said)
    assert text.count("metrics could not be written") == 1
    assert "an evaluation could not be written" in text
    assert "earlier checkpoints are untouched" in text
    assert "the replay could not be saved" in text
    assert Checkpoints(run / "checkpoints").load()[1]["frames"] == before == 256


def command(*words: str) -> list[str]:
    script = Path(__file__).resolve().parents[2] / "scripts" / "train_iqn.py"
    return [sys.executable, str(script), *words]


def start(run: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(*DRIVE, f"hydra.run.dir='{run}'", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str], *, timeout_s: float = 120.0) -> None:
    end = time.monotonic() + timeout_s
    while not list((run / "checkpoints").glob("frames_*[1-9]*/manifest.json")):  # after that of the start
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "no checkpoint"
        time.sleep(0.05)


def kill_and_resume(tmp_path: Path, *, times: int, seed: int) -> None:
    """Kill a run at random moments; each time it can be resumed from its last checkpoint."""
    run, draws = tmp_path / "run", random.Random(seed)
    often = [
        "checkpoint.first_minutes=0.002",
        "checkpoint.every_minutes=0.002",
        "checkpoint.replay_every_minutes=0.005",
    ]
    frames = 0
    for number in range(times):
        words = [*often, "total_frames=1000000"] + ([f"resume='{run}'"] if number else [])
        process = start(run, *words)
        if number == 0:
            wait_for_checkpoint(run, process)
        else:
            manifest = max((run / "checkpoints").glob("frames_*"))
            end = time.monotonic() + 120
            while max((run / "checkpoints").glob("frames_*")) == manifest and time.monotonic() < end:
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.02)
        time.sleep(draws.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
        _, manifest_found = Checkpoints(run / "checkpoints").load()
        assert manifest_found["frames"] > frames
        frames = manifest_found["frames"]
    summary = quiet([*DRIVE, f"total_frames={frames + 128}", f"resume='{run}'"], run)
    assert summary.frames == frames + 128
    found = [row["frames"] for row in read_metrics(run)]
    assert found == sorted(set(found)), "no row twice"


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_kills_at_random_moments_leave_a_run_that_resumes(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, times=2, seed=0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_hundred_kills_leave_a_run_that_resumes(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, times=100, seed=1)


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_an_interrupt_stops_cleanly_with_a_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run, "total_frames=1000000", "checkpoint.first_minutes=0.01")
    wait_for_checkpoint(run, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "it was interrupted" in output
    assert f"resume={run}" in output


def test_a_misspelt_setting_ends_with_its_nearest_name(tmp_path: Path) -> None:
    found = subprocess.run(
        command("env.trak=oval"), capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120
    )
    assert found.returncode == 2
    assert "error: env.trak=oval: no such setting; did you mean track?" in found.stderr
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []
    compose_settings()
