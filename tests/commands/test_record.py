"""The command that records laps: it goes on where it was, and refuses what it cannot do in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Script
from tests.trainers.test_training import SMALL, quiet
from tm_torchrl.data import DemonstrationFolder
from tm_torchrl.tracks import blocks
from tm_torchrl.tracks.medals import medals_of


@pytest.fixture
def run(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs the script in a folder with a short track."""
    monkeypatch.chdir(tmp_path)
    blocks("SSLSS", name="short").save(tmp_path / "short.npz")
    return lambda *words: script("scripts/record.py", *words)


def test_it_records_and_goes_on_where_it_was(run: Script, tmp_path: Path) -> None:
    words = ("short.npz", "--driver", "scripted", "--cars", 2, "--out")
    for laps in (1, 3):
        done = run(*words, "parts", "--laps", laps)
        assert done.returncode == 0, done.stderr
        assert f"short: {laps} laps" in done.stdout
    run(*words, "whole", "--laps", 3)
    parts, whole = (DemonstrationFolder(tmp_path / name) for name in ("parts", "whole"))
    assert parts.num_attempts == whole.num_attempts
    np.testing.assert_array_equal(parts.lap_time_s, whole.lap_time_s)
    frames = np.arange(len(whole))
    np.testing.assert_array_equal(parts.rows("observation", frames), whole.rows("observation", frames))
    other = run(*words, "parts", "--laps", 3, "--seed", 1)
    assert (other.returncode, other.stderr.count("\n")) == (1, 1)
    assert "settings.seed=0, not 1" in other.stderr


def test_it_follows_a_script_of_inputs(run: Script, tmp_path: Path) -> None:
    (tmp_path / "best.inputs").write_text("0.00-20.00 press up\n")
    gentle = blocks("SSSS", name="straight")
    gentle.save(tmp_path / "straight.npz")
    done = run("straight.npz", "--driver", "best.inputs", "--laps", 2, "--cars", 2, "--out", "laps", "--pixels")
    assert done.returncode == 0, done.stderr
    assert DemonstrationFolder(tmp_path / "laps").rows("pixels", np.array([0])).shape == (1, 1, 64, 64)


def test_it_follows_the_record_and_says_which(run: Script, tmp_path: Path) -> None:
    """A folder of laps like one record is not continued when there is another one, since the driver differs."""
    done = run("oval", "--driver", "record", "--laps", 1, "--cars", 1, "--disturbed", 0, "--out", "laps")
    assert done.returncode == 0, done.stderr
    record_s, folder = medals_of("oval").record.time_s, DemonstrationFolder(tmp_path / "laps")
    assert folder.description.driver == f"record, {record_s:.2f} s"
    assert abs(folder.lap_time_s[0] - record_s) < 1.0


def test_it_records_a_trained_agent(run: Script, tmp_path: Path) -> None:
    """An agent that never finishes: recording ends by itself, and says so."""
    settings = [*SMALL, f"env.track='{tmp_path / 'short.npz'}'", "env.num_envs=2", "collector.frames_per_batch=16"]
    quiet([*settings, "total_frames=16", "evaluation.num=1", "env.evaluation_limits.race_s=0.5"], tmp_path / "run")
    done = run("short.npz", "--driver", "run", "--laps", 1, "--cars", 200, "--starts", "line", "--out", "laps")
    assert done.returncode in (0, 1)
    assert "attempts in a row did not finish" in done.stderr or "1 laps" in done.stdout


def test_a_driver_corrects_a_student(run: Script, tmp_path: Path) -> None:
    settings = [*SMALL, f"env.track='{tmp_path / 'short.npz'}'", "env.num_envs=2", "collector.frames_per_batch=16"]
    short = ["total_frames=16", "evaluation.num=1", "env.evaluation_limits.race_s=0.5"]
    quiet([*settings, *short], tmp_path / "run")
    words = ("short.npz", "--driver", "scripted", "--laps", 1, "--cars", 8, "--disturbed", 0, "--out", "laps")
    done = run(*words, "--student", "run")
    assert done.returncode == 0, done.stderr
    laps = DemonstrationFolder(tmp_path / "laps")
    action, chosen = (laps.rows(name, np.arange(len(laps))) for name in ("action", "chosen"))
    assert 0.1 < (action != chosen).mean() < 0.9
    assert laps.description.settings["student"] == "run"
    quiet([*settings, *short, "env.action_block=5", "env.num_previous_actions=25"], tmp_path / "blocks")
    done = run(*words, "--student", "blocks")
    assert (done.returncode, "--student blocks: must have the env.action_block" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ovel",), "did you mean oval"),
        (("short.npz",), "has no author lap"),
        (("oval", "--laps", 0), "--laps 0: must be at least 1"),
        (("oval", "--disturbed", 1), "disturbed=1"),
        (("oval", "--seed", -1), "--seed -1: must be at least 0"),
        (("oval", "--driver", "nobody"), "nobody"),
        (("oval", "--driver", "idle.inputs"), "do not finish"),
        (("oval", "--driver", "ticks.inputs"), "changes keys within 50 ms"),
        (("oval", "--out", "full"), "no folder of demonstrations"),
    ],
)
def test_bad_input_is_one_line(words: tuple, message: str, run: Script, tmp_path: Path) -> None:
    (tmp_path / "idle.inputs").write_text("0.00-1.00 press down\n")
    (tmp_path / "ticks.inputs").write_text("0.00-1.01 press up\n0.02-0.04 press left\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("chapter 1")
    done = run(*words, "--cars", 1)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0
