"""Ablations: which settings run, what is skipped, what goes on, what fails, what is kept, what is written."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure

from tm_torchrl.experiments.ablation import ROADMAP, Ablation, apply_changes, changes, compose_experiment
from tm_torchrl.experiments.robustness import measure_robustness, read_robustness
from tm_torchrl.experiments.run_process import RUN, SETTINGS, STOPPED, count_kills, note_kills, run_in
from tm_torchrl.experiments.table import Entry, better, markdown, measure
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.settings import ConfigError
from tm_torchrl.settings.tree import config_folder
from tm_torchrl.trainers import train

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("env.num_envs=2", "total_frames=384", "collector.frames_per_batch=64", "precision=float32"),
    *("replay.learning_starts=64", "replay.batch_size=8", "replay.uses_per_transition=0.25"),
    *("evaluation.every_frames=1000", "evaluation.num=1", "log.every_frames=64", "log.diagnostics_every=1"),
    "log.tensorboard=false",
]
NORM = "objective.network.layer_norm=true"
NAMES = [NORM, "gamma=0.9+target_update.tau=0.2"]


class Ended:
    """A process that has ended with a status."""

    def __init__(self, status: int) -> None:
        self.status = status

    def poll(self) -> int:
        return self.status

    def stop(self) -> int:
        return self.status


def ablation(out: Path, **options: Any) -> Ablation:
    settings = {"baseline": "cartpole_iqn", "seeds": [0, 1], "overrides": TINY, **options}
    return Ablation(settings.pop("names", NAMES), out=out, **settings)


def ablate(out: Path, *, start: Callable[[Path], int] = run_in, judge: Any = lambda run: None, **options: Any) -> Any:
    """The entries of an ablation whose runs are made by a function in this process."""
    return ablation(out, **options).run(start=lambda folder: Ended(start(folder)), judge=judge)


def test_an_experiment_over_two_seeds_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second run is killed at frame 256 of 384; what was done before is not done again."""
    monkeypatch.setattr("tm_torchrl.trainers.run.write_report", lambda run: None)  # takes longer than training
    started: list[str] = []

    def killed(folder: Path) -> int:
        started.append(f"{folder.parent.name}/{folder.name}")
        if started[-1] != f"{NORM}/seed_1":
            return run_in(folder)
        settings = yaml.safe_load((folder / SETTINGS).read_text())
        train({**settings, "total_frames": 256}, folder=folder / RUN, is_quiet=True)
        return -9

    first = ablate(tmp_path, names=[NORM], start=killed)
    assert [(sorted(entry.measures), sorted(entry.failures)) for entry in first] == [([0, 1], []), ([0], [1])]
    assert len(started) == 4
    assert "exit status -9" in first[1].failures[1]
    born = (tmp_path / NORM / "seed_1" / RUN / "run.json").read_text()

    def counted(folder: Path) -> int:
        again.append(f"{folder.parent.name}/{folder.name}")
        return run_in(folder)

    again: list[str] = []
    second = ablate(tmp_path, names=[NORM], start=counted)
    assert again == [f"{NORM}/seed_1"]
    run = tmp_path / NORM / "seed_1" / RUN
    assert (run / "run.json").read_text() == born, "the same run went on"
    assert read_evaluations(run)[-1]["frames"] == 384
    assert not any(entry.failures for entry in second)
    table = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["experiment"] for row in table] == ["cartpole_iqn", NORM]
    assert {row["num_runs"] for row in table} == {"2"}
    for row in table:
        for name in ("return_mean", "action_gap", "policy_churn"):
            assert float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"])
    assert (tmp_path / "plot.png").stat().st_size > 3000
    assert f"| {NORM} | cartpole_iqn | 2 of 2 |" in (tmp_path / "table.md").read_text()


def fake_results(monkeypatch: pytest.MonkeyPatch, returns: dict[str, float]) -> None:
    """Runs that take no time; their returns go by the experiment's folder."""

    def found(run: Path) -> dict[str, float]:
        return {"return_mean": returns[run.parent.parent.name]}

    monkeypatch.setattr("tm_torchrl.experiments.ablation.measure", found)
    monkeypatch.setattr("tm_torchrl.experiments.table.plot", lambda entries: Figure())


def done(folder: Path) -> int:
    (folder / "result.json").write_text("{}")
    return 0


def test_experiments_accumulate_on_the_best_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B is better than A and kept, C is worse than B, so D is added to B."""
    names = [NORM, "gamma=0.9", "learning_rate=0.001"]
    fake_results(monkeypatch, {"cartpole_iqn": 1.0, NORM: 2.0, "gamma=0.9": 1.5, "learning_rate=0.001": 3.0})
    entries = ablate(tmp_path, names=names, accumulate=True, start=done)
    kept = [(entry.base, entry.is_kept) for entry in entries]
    assert kept == [("", False), ("cartpole_iqn", True), (NORM, False), (NORM, True)]
    last = yaml.safe_load((tmp_path / "learning_rate=0.001" / "seed_1" / SETTINGS).read_text())
    assert last["objective"]["network"]["layer_norm"] is True
    assert (last["gamma"], last["learning_rate"], last["seed"]) == (0.99, 1e-3, 1)


def test_one_at_a_time_each_is_added_to_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_results(monkeypatch, {"cartpole_iqn": 1.0, NORM: 2.0, "gamma=0.9": 3.0})
    entries = ablate(tmp_path, names=[NORM, "gamma=0.9"], start=done)
    assert [(entry.base, entry.is_kept) for entry in entries[1:]] == [("cartpole_iqn", False)] * 2
    last = yaml.safe_load((tmp_path / "gamma=0.9" / "seed_0" / SETTINGS).read_text())
    assert last["objective"]["network"]["layer_norm"] is False


def test_without_accumulation_runs_of_all_experiments_go_on_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run ends before all four have started: two seeds of the baseline, two of an experiment."""
    fake_results(monkeypatch, {"cartpole_iqn": 1.0, NORM: 2.0})
    started: list[Path] = []

    class Waits(Ended):
        def poll(self) -> Any:
            return 0 if len(started) == 4 else None

    def start(folder: Path) -> Waits:
        started.append(folder)
        return Waits(done(folder))

    entries = ablation(tmp_path, names=[NORM], workers=4).run(start=start)
    assert [entry.measures for entry in entries] == [
        {seed: {"return_mean": score} for seed in (0, 1)} for score in (1, 2)
    ]


def test_what_fails_is_recorded_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(folder: Path) -> int:
        if NORM in folder.parent.name and folder.name == "seed_1":
            (folder / "log.txt").write_text("Traceback\nMemoryError: too large\n\n")
            return 1
        return done(folder)

    names = [NORM, "gamm=1", "seed=3", "gamma=0.9"]
    fake_results(monkeypatch, {"cartpole_iqn": 1.0, "gamma=0.9": 2.0, NORM: 1.0})
    entries = ablate(tmp_path, names=names, accumulate=True, start=start)
    assert entries[1].failures == {
        1: f"exit status 1: MemoryError: too large ({tmp_path / NORM / 'seed_1' / 'log.txt'})"
    }
    assert "gamm=1: no such setting; did you mean gamma?" in entries[2].failures[0]
    assert "seed=3: changes nothing of cartpole_iqn" in entries[3].failures[0]
    assert entries[4].is_kept and entries[4].base == "cartpole_iqn"
    text = (tmp_path / "table.md").read_text()
    assert f"- {NORM}, seed 1: exit status 1: MemoryError: too large" in text


def test_an_experiment_that_changes_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_results(monkeypatch, {"cartpole_iqn": 1.0})
    entries = ablate(tmp_path, names=["estimator.temperature=0.03"], start=done)
    assert "changes nothing of cartpole_iqn" in entries[1].failures[0]


def test_runs_of_other_settings_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_results(monkeypatch, {"cartpole_iqn": 1.0})
    ablate(tmp_path, names=[], start=done)
    (entry,) = ablate(tmp_path, names=[], start=done, overrides=[*TINY, "gamma=0.5"])
    assert "has other settings (gamma: 0.99 -> 0.5)" in entry.failures[0]


def test_an_interruption_ends_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ablate(tmp_path, start=lambda folder: STOPPED)


def test_messages(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names: gamma=1"):
        ablation(tmp_path, names=["gamma=1", "gamma=1"])
    with pytest.raises(ValueError, match=r"seeds=\[0, 0\]"):
        ablation(tmp_path, seeds=[0, 0])
    with pytest.raises(ValueError, match="workers=0"):
        ablation(tmp_path, workers=0)
    with pytest.raises(ConfigError, match="did you mean iqn_pixels"):
        compose_experiment("iqn_pixel", baseline="iqn_pixels")


def test_the_roadmap_is_complete() -> None:
    assert sorted(ROADMAP) == sorted(path.stem for path in (config_folder() / "experiment").glob("exp_*.yaml"))


def test_changes_carry_over() -> None:
    ours, theirs = {"a": {"b": [1], "n": None}, "k": 1}, {"a": 3, "k": 1, "gone": 0}
    assert apply_changes(theirs, changes(ours, theirs)) == ours
    assert apply_changes({"a": {"old": 1}, "gone": 2}, changes(ours, theirs)) == {"a": {"b": [1], "n": None}}


def test_measures_of_laps(tmp_path: Path) -> None:
    settings = "env: {evaluation_limits: {race_s: 120.0}}\nobjective: {}\nreplay: {}\n"
    (tmp_path / "config.yaml").write_text(settings)
    row = {
        "track": "oval",
        "frames": 1,
        "median_lap_s": 30.0,
        "finish_rate": 1.0,
        "action_swaps": 0.25,
        "return_mean": 1,
    }
    rows = [row, {**row, "frames": 2, "median_lap_s": None, "finish_rate": 0.25}, {**row, "track": "ring"}]
    (tmp_path / "evaluations.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "metrics.jsonl").write_text(
        '{"frames": 1, "diagnostics/action_gap": 1.0}\n{"frames": 2, "diagnostics/action_gap": 3.0, '
        '"diagnostics/policy_churn": 0.5}\n{"frames": 3, "diagnostics/policy_churn": 0.25}\n'
    )
    laps = {"final_lap_s": 120.0, "finish_rate": 0.25, "action_swaps": 0.25}
    assert measure(tmp_path) == {**laps, "action_gap": 3.0, "policy_churn": 0.375}


def test_better_is_faster_and_no_less_safe() -> None:
    def laps(lap: float, rate: float) -> dict[int, dict[str, float]]:
        return {seed: {"final_lap_s": lap, "finish_rate": rate} for seed in range(3)}

    assert better(laps(29, 1.0), laps(30, 1.0))
    assert not better(laps(30, 1.0), laps(30, 1.0))
    assert not better(laps(29, 0.5), laps(30, 1.0))
    assert not better({}, laps(30, 1.0))


def test_better_is_more_than_seeds_make() -> None:
    """Of 9 pairs each; one lap that is much faster does not tell, nor does a lap more or less that finishes."""

    def runs(*laps: float, rates: tuple[float, ...] = (1.0, 1.0, 1.0)) -> dict[int, dict[str, float]]:
        both = enumerate(zip(laps, rates, strict=True))
        return {seed: {"final_lap_s": lap, "finish_rate": rate} for seed, (lap, rate) in both}

    before = runs(30.0, 31.0, 32.0)
    assert better(runs(29.0, 30.5, 30.8), before)  # 3 + 2 + 2 of 9 pairs
    assert not better(runs(20.0, 31.5, 31.6), before)  # 3 + 1 + 1
    assert better(runs(29.0, 29.0, 29.0, rates=(0.9, 1.0, 1.0)), before)  # ahead of in 3 of 9 pairs, behind in none
    assert not better(runs(29.0, 29.0, 29.0, rates=(0.9, 0.9, 0.9)), before)


def test_cells_of_the_table() -> None:
    """Of 1, 2, 3, 10 the middle half is 2 and 3."""
    entry = Entry("a", measures={seed: {"final_lap_s": lap} for seed, lap in enumerate([1.0, 2.0, 3.0, 10.0])})
    assert "| a | - | 4 of 5 | - | 2.50 [" in markdown([entry], seeds=range(5))
    added = Entry("b", base="a", measures={0: {"final_lap_s": 1.5}, 1: {"final_lap_s": 2.0}})  # ahead in 3 + 2.5 of 8
    assert "| b | a | 2 of 5 | 0.69 | 1.75 [" in markdown([entry, added], seeds=range(5))


@pytest.mark.parametrize(("is_starter_gone", "status"), [(False, 0), (True, STOPPED)])
def test_a_process_ends_by_itself_or_with_its_starter(is_starter_gone: bool, status: int) -> None:
    """Its work takes no time, or for ever until its starter is gone."""
    work = "[time.sleep(0.05) for _ in range(1200)]" if is_starter_gone else "0"
    program = (
        "import sys, time\nfrom tm_torchrl.experiments import run_process\n"
        f"run_process.run_in = lambda folder: {work}\nsys.argv = ['', '.']\nrun_process.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE)
    assert process.stdin is not None
    if is_starter_gone:
        process.stdin.close()
    assert process.wait(timeout=55) == status
    process.stdin.close()


@pytest.mark.slow
def test_a_process_is_killed_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """The whole program with the run that it started, killed outright when the run has its first checkpoint."""
    command = [sys.executable, str(ROOT / "scripts" / "ablate.py"), NORM, "--baseline", "cartpole_iqn"]
    command += ["--seeds", "0", "--out", str(tmp_path), "--with", *TINY, "total_frames=4096"]
    command += ["checkpoint.first_minutes=0.001", "checkpoint.every_minutes=0.001"]
    run = tmp_path / "cartpole_iqn" / "seed_0" / RUN
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 400
    while not any((run / "checkpoints").glob("frames_*/manifest.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.communicate()
    log = run.parent / "log.txt"
    while "Ended after" not in log.read_text(errors="replace"):  # the run notices, saves and ends
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.2)
    assert "it was interrupted" in log.read_text(errors="replace")
    born = (run / "run.json").read_text()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (run / "run.json").read_text() == born
    assert f"| {NORM} | cartpole_iqn | 1 of 1 |" in (tmp_path / "table.md").read_text()


def test_kills_are_counted_and_orderly_ends_are_not(tmp_path: Path) -> None:
    """Begun and killed twice, then begun and ended in order, then begun again."""
    assert [count_kills(tmp_path) for _ in range(3)] == [0, 1, 2]
    note_kills(tmp_path, 2, is_under_way=False)
    assert count_kills(tmp_path) == 2
    (tmp_path / "under_way.json").write_text("{")
    assert count_kills(tmp_path) == 0


def test_finished_runs_are_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three conditions, whose finish rates stand in the table; greedy laps replace those of the last evaluation."""
    monkeypatch.setattr("tm_torchrl.trainers.run.write_report", lambda run: None)
    monkeypatch.setattr("tm_torchrl.experiments.robustness.NUM_LAPS", 3)
    limits = ["env.limits.no_progress_s=0.1", "env.evaluation_limits.no_progress_s=0.1", "env.track=oval"]
    options = {"names": [], "baseline": "short_drive", "seeds": [0], "overrides": [*TINY, *limits]}
    entry = ablate(tmp_path, judge=measure_robustness, **options)[0]
    assert entry.failures == {}
    run = tmp_path / "short_drive" / "seed_0" / RUN
    assert list(read_robustness(run)) == ["greedy", "epsilon", "noise"]
    assert entry.measures[0]["finish_rate_epsilon"] == entry.measures[0]["finish_rate_noise"] == 0.0
    rows = {"greedy": {"finish_rate": 0.75, "median_lap_s": 31.5}, "noise": {"finish_rate": 0.5}}
    (run / "robustness.json").rename(run / "hardships.json")  # as older versions name it
    (run / "hardships.json").write_text(json.dumps(rows))
    entry = ablate(tmp_path, judge=measure_robustness, **options)[0]
    assert entry.measures[0]["finish_rate"] == 0.75 and entry.measures[0]["final_lap_s"] == 31.5
    assert entry.measures[0]["finish_rate_noise"] == 0.5 and "finish_rate_epsilon" not in entry.measures[0]
