"""Every kind of algorithm and the game, with workers in a simulated cluster; and a learner that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.collectors.test_supervised import needs_ray, posix
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.loop import run_loop
from tm_torchrl.trainers.run import make_training

pytestmark = [needs_ray, posix]
ROLLOUTS = ["collector.is_synchronous=true", "collector.frames_per_batch=128"]
CASES = {
    "quantiles": ["experiment=cartpole_iqn", "replay.learning_starts=100"],
    "ppo": ["experiment=cartpole_ppo", "rollouts.frames_per_update=128", "rollouts.minibatch_size=64", *ROLLOUTS],
    "grpo": ["experiment=cartpole_grpo", "groups.frames_per_update=128", "groups.minibatch_size=64", *ROLLOUTS],
    "sequences": ["experiment=r2d2_iqn", "replay.learning_starts=100"],
    "game": ["env=game", "game=emulator2", "replay.learning_starts=50", "collector.frames_per_batch=32"],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_it_learns_from_workers_of_a_cluster(case: str, ray_cluster: Any) -> None:
    overrides = [*CASES[case], "collector=ray", "collector.address=auto", "collector.num_workers=2"]
    settings = compose_settings([*overrides, "precision=float32", f"total_frames={96 if case == 'game' else 1024}"])
    task = make_task(settings)
    messages: list[str] = []
    training = make_training(settings, task, log=messages.append)
    try:
        run_loop(training)
        found = training.source.metrics()
    finally:
        training.source.shutdown()
        task.close()
    assert training.algorithm.learner.num_updates > 0
    assert found["restarts"] == 0.0, messages
    assert found["weights_age_max"] <= (0.5 if "ppo" in case else 2.0)


@pytest.mark.slow
def test_a_killed_learner_leaves_no_actor_and_its_run_continues(tmp_path: Path) -> None:
    """The first run is killed with -9 once it has saved; the second one resumes it on a Ray of its own."""
    command = [sys.executable, "-m", "tm_torchrl", "train"]
    overrides = ["experiment=cartpole_iqn", "collector=ray", "collector.num_workers=1", "checkpoint.first_minutes=0.05"]
    token = tmp_path / "token"
    token.write_text("0" * 64)
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": root, "RAY_AUTH_TOKEN_PATH": str(token), "OMP_NUM_THREADS": "1"}
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
        environment.pop(name, None)
    first = subprocess.Popen(
        [*command, *overrides, "total_frames=10_000_000", "name=run"], cwd=tmp_path, env=environment
    )
    end = time.monotonic() + 500
    while not list(tmp_path.glob("runs/run/*/checkpoints/frames_*")):
        assert time.monotonic() < end and first.poll() is None, "no checkpoint"
        time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    while actors_in(tmp_path):
        assert time.monotonic() < end, "an actor lives on"
        time.sleep(0.5)
    (folder,) = tmp_path.glob("runs/run/*")
    frames = max(int(path.name.removeprefix("frames_")) for path in (folder / "checkpoints").glob("frames_*"))
    last = [f"resume={folder}", f"total_frames={frames + 1000}"]
    subprocess.run([*command, *last], cwd=tmp_path, env=environment, check=True, timeout=500)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["frames"] >= frames
    assert "collector/weights_age" in rows[-1]


def actors_in(folder: Path) -> list[str]:
    """The processes of actors whose working folder this is."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.joinpath("cwd").resolve() == folder and b"CollectingActor" in path.joinpath("cmdline").read_bytes():
                found.append(path.name)
        except OSError:
            continue
    return found
