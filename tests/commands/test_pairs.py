"""The command that pairs recorded laps: from two drivers to a file that DPO learns from, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Script
from tests.data.demonstrations import made_laps
from tests.trainers.test_training import quiet
from tm_torchrl.data import DemonstrationFolder, DemonstrationWriter
from tm_torchrl.data.demonstrations.driven_again import progress_of
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.tracks import blocks, load_track

POLICY = ["algorithm=dpo", "objective.network.hidden_sizes=[16]", "objective.network.head_size=16"]
SHORT = ["total_frames=16", "evaluation.num=1", "env.evaluation_limits.race_s=0.5", "log.tensorboard=false"]


@pytest.fixture
def run(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs a script in a folder with a short track."""
    monkeypatch.chdir(tmp_path)
    blocks("SSLSS", name="short").save(tmp_path / "short.npz")
    return lambda name, *words: script(f"scripts/{name}.py", *words)


def recorded(run: Script, out: str, *words: object) -> None:
    done = run("record", "short.npz", "--cars", 4, "--disturbed", 0, "--out", out, *words)
    assert done.returncode == 0, done.stderr


def test_two_samples_of_a_policy(run: Script, tmp_path: Path) -> None:
    """From a policy to pairs of its samples, and on with DPO."""
    size = ["env.track=short.npz", "env.num_envs=2", "collector=single", "collector.frames_per_batch=16"]
    quiet([*POLICY, *size, *SHORT], tmp_path / "policy")
    words = ("--driver", "policy", "--starts", "anywhere", "--steps", 12, "--laps")
    recorded(run, "one", *words, 6, "--sampled", 1)
    recorded(run, "sub/two", *words, 5, "--sampled", 2)
    recorded(run, "again", *words, 6, "--sampled", 1, "--cars", 3)
    one, two, again = (DemonstrationFolder(tmp_path / name) for name in ("one", "sub/two", "again"))
    frames = np.arange(len(one))
    assert np.array_equal(one.rows("action", frames), again.rows("action", frames)), "no lap depends on other cars"
    assert np.array_equal(one.lap_start, again.lap_start) and np.array_equal(one.lap_start[:5], two.lap_start)
    assert not np.array_equal(one.rows("action", frames[:24]), two.rows("action", frames[:24]))
    beginnings = {tuple(one.rows("action", first + np.arange(6))) for first in one.lap_first}
    assert len(beginnings) > 3, "each car draws its own"
    assert np.isnan(one.lap_time_s).all() and (one.lap_frames <= 12).all()

    done = run("pairs", "one", "sub/two", "--track", "short.npz", "--out", "sub/pairs.jsonl")
    assert done.returncode == 0, done.stderr
    assert "5 laps that begin equally" in done.stdout
    pairs = [json.loads(line) for line in (tmp_path / "sub/pairs.jsonl").read_text().splitlines()]
    metres = {}
    for name, folder in (("../one", one), ("two", two)):
        env = TrackManiaEnv(5, track=load_track(tmp_path / "short.npz"))
        metres[name] = progress_of(env, folder, range(5))
    for pair in pairs:
        better, worse = pair["preferred"], pair["rejected"]
        assert better["lap"] == worse["lap"] and {better["folder"], worse["folder"]} == {"../one", "two"}
        assert metres[better["folder"]][better["lap"]] > metres[worse["folder"]][worse["lap"]]

    start = ["warm_start={source: policy}", "algorithm.cloning_coefficient=0.1"]
    learn = ["algorithm=dpo_recorded", *POLICY[1:], "env.track=short.npz", "data=sub/pairs.jsonl", *start]
    summary = quiet([*learn, *SHORT, "pairs.minibatch_size=2", "collector.frames_per_batch=16"], tmp_path / "dpo")
    assert summary.frames == 16


def test_finished_laps_and_times_count_first(run: Script, tmp_path: Path) -> None:
    """Half of the cuts end before the finish; of those that finish, the quicker is preferred."""
    recorded(run, "one", "--driver", "scripted", "--laps", 3)
    recorded(run, "two", "--driver", "scripted", "--laps", 3, "--disturbed", 0.2)
    recorded(run, "cut", "--driver", "scripted", "--laps", 3, "--steps", 20)
    one, two = (DemonstrationFolder(tmp_path / name) for name in ("one", "two"))
    assert run("pairs", "one", "two", "--track", "short.npz", "--out", "a.jsonl").returncode == 0
    for line in (tmp_path / "a.jsonl").read_text().splitlines():
        better, worse = (json.loads(line)[side] for side in ("preferred", "rejected"))
        times = {"one": one.lap_time_s, "two": two.lap_time_s}
        assert times[better["folder"]][better["lap"]] < times[worse["folder"]][worse["lap"]]
        assert better["steps"] < worse["steps"]
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/away")  # ".." leads out of where it points to
    run("pairs", "cut", "one", "--track", "short.npz", "--out", "link/b.jsonl")
    pairs = [json.loads(line) for line in (tmp_path / "far/away/b.jsonl").read_text().splitlines()]
    names = [(pair["preferred"]["folder"], pair["rejected"]["folder"]) for pair in pairs]
    assert names == [("../../one", "../../cut")] * 3


def test_what_makes_no_pairs_is_one_line(run: Script, tmp_path: Path) -> None:
    recorded(run, "one", "--driver", "scripted", "--laps", 2, "--steps", 5)
    recorded(run, "other", "--driver", "scripted", "--laps", 2, "--steps", 5, "--seed", 1)
    words = ("--track", "short.npz", "--out", "pairs.jsonl")
    for first, second, message in (
        ("one", "one", "one: its 2 laps that begin as one of one does are ties"),
        ("one", "other", "other: none of its laps begins as one of one does"),
        ("one", "nowhere", "nowhere: does not exist"),
    ):
        done = run("pairs", first, second, *words)
        assert done.returncode == 1 and message in done.stderr and done.stderr.strip().count("\n") == 0
    done = run("pairs", "one", "one", "--track", "oval", "--out", "pairs.jsonl")
    assert done.returncode == 1 and "one: holds laps on short" in done.stderr
    foreign = made_laps.replaced(made_laps.lap(0, 5), start=np.zeros(0, np.float32))
    DemonstrationWriter(tmp_path / "game", made_laps.description(state_size=0)).add([foreign], num_attempts=1)
    done = run("pairs", "game", "game", "--track", "oval", "--out", "pairs.jsonl")
    assert done.returncode == 1 and "game: its laps have no states of the simulator" in done.stderr
    assert not (tmp_path / "pairs.jsonl").exists()
    done = run("record", "short.npz", "--driver", "scripted", "--sampled", 1)
    assert done.returncode == 1 and "--sampled 1: only actions of a policy" in done.stderr
    done = run("record", "short.npz", "--driver", "scripted", "--steps", 0)
    assert done.returncode == 1 and "--steps 0: must be at least 1" in done.stderr
