"""That it learns: small tasks with the real settings. Minutes each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tm_torchrl.record.run_folder import read_metrics
from tm_torchrl.trainers import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(3))
def test_cartpole_is_solved_within_fifty_thousand_steps(seed: int, tmp_path: Path) -> None:
    summary = train(["experiment=cartpole_iqn", f"seed={seed}"], folder=tmp_path / "run", is_quiet=True)
    assert summary.rows[0]["return_mean"] >= 475
    assert summary.frames <= 50_000


@pytest.mark.parametrize("objective", ["iqn", "qrdqn"])
def test_the_oval_is_finished(objective: str, tmp_path: Path) -> None:
    summary = train(
        ["env.track=oval", f"objective={objective}", "total_frames=80_000", "evaluation.every_frames=10_240"],
        folder=tmp_path / "run",
        is_quiet=True,
    )
    assert max(row["finish_rate"] for row in summary.best_rows) >= 0.95


def test_the_default_track_is_driven_faster_than_by_the_scripted_driver(tmp_path: Path) -> None:
    summary = train(["total_frames=300_000"], folder=tmp_path / "run", is_quiet=True)
    best = summary.best_rows[0]
    assert best["finish_rate"] >= 0.95
    assert best["medal"] in ("gold", "author")


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "dpo"])
def test_policies_solve_cartpole(algorithm: str, tmp_path: Path) -> None:
    summary = train([f"experiment=cartpole_{algorithm}"], folder=tmp_path / "run", is_quiet=True)
    assert summary.rows[0]["return_mean"] >= 475


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "dpo"])
def test_policies_finish_the_default_track(algorithm: str, tmp_path: Path) -> None:
    often = ["total_frames=409_600", "evaluation.every_frames=51_200", "evaluation.target_score=0.95"]
    summary = train([f"algorithm={algorithm}", *often], folder=tmp_path / "run", is_quiet=True)
    assert summary.rows[0]["finish_rate"] >= 0.95


def test_memory_does_not_grow(tmp_path: Path) -> None:
    """Less than 3 MB a minute (a line) over most of 3 minutes, with a replay soon full and laps that are cut at 20 s.

    Evaluations of longer laps take more memory, which is kept, until the longest possible one was driven.
    """
    small = ["env.num_envs=16", "replay.capacity=10_000", "replay.learning_starts=2_000", "log.every_frames=2_048"]
    often = ["evaluation.every_frames=8_192", "checkpoint.every_minutes=0.5", "checkpoint.replay_every_minutes=1"]
    train(
        ["max_minutes=3", "env.evaluation_limits.race_s=20", "collector=single", *small, *often],
        folder=tmp_path / "run",
        is_quiet=True,
    )
    rows = [row for row in read_metrics(tmp_path / "run") if row["frames"] > 2 * 8_192]
    minutes = [row["seconds"] / 60 for row in rows]
    slope, _ = np.polyfit(minutes, [row["memory/rss_mb"] for row in rows], 1)
    assert len(rows) >= 8
    assert slope < 3.0
