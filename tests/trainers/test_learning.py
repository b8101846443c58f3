"""That it learns: small tasks with the real settings. Minutes each."""

from __future__ import annotations

from pathlib import Path

import pytest

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
