"""The suite's runner: what runs, is skipped, goes on, fails, is refused; processes are fakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.grids.cells import SUITE, Suite
from benchmarks.grids.results import Results
from benchmarks.grids.runner import PEER_ARGUMENTS, Runner, start
from tests.conftest import Script
from tm_torchrl.experiments.run_process import STOPPED
from tm_torchrl.settings import ConfigError

ROOT = Path(__file__).resolve().parents[3]
FACTS = {"versions": {"torch": "1"}, "python": "3", "machine": "here", "git": "abc", "date": "today", "command": "me"}
GRID = {
    "quick": [
        {"environments": ["cartpole"], "algorithms": ["qrdqn", "iqn"], "seeds": 2, "overrides": ["total_frames=7"]}
    ],
    "peers": [{"environments": ["cartpole"], "algorithms": ["sb3_qrdqn"], "seeds": 1}],
}
TINY = [
    *("total_frames=384", "env.num_envs=2", "collector.frames_per_batch=64", "replay.learning_starts=64"),
    *("replay.uses_per_transition=0.25", "evaluation.every_frames=384", "evaluation.num=1", "log.every_frames=64"),
]


class World:
    """Starts processes that end at the second look with what was asked for, and counts how many run at a time."""

    def __init__(self, statuses: dict[str, list[int]] | None = None) -> None:
        self.statuses = {name: list(each) for name, each in (statuses or {}).items()}
        self.started: list[str] = []
        self.peers: list[str | None] = []
        self.running: set[Path] = set()
        self.most = 0
        self.stopped: list[str] = []

    def start(self, folder: Path, *, peer: str | None) -> Any:
        self.started.append(f"{folder.parent.name}/{folder.name}")
        self.peers.append(peer)
        self.running.add(folder)
        self.most = max(self.most, len(self.running))
        return Played(self, folder)


class Played:
    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder, self.looks = world, folder, 0

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    def poll(self) -> int | None:
        self.looks += 1
        if self.looks < 2:
            return None
        self.world.running.discard(self.folder)
        left = self.world.statuses.get(self.name)
        status = left.pop(0) if left else 0
        if status == 0:
            run = self.folder / "run"
            run.mkdir(exist_ok=True)
            row = {"task": "x", "frames": 7, "updates": 2, "cpu_s": 1.0, "seconds": 2.0, "return_mean": 250.0}
            (run / "evaluations.jsonl").write_text(json.dumps(row) + "\n")
            (self.folder / "result.json").write_text('{"parameters": 5}')
        else:
            (self.folder / "log.txt").write_text("Traceback\nMemoryError: too large\n")
        return status

    def stop(self) -> int:
        self.world.stopped.append(self.name)
        return 0


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    found = yaml.safe_load(SUITE.read_text(encoding="utf-8"))
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({**found, "grids": GRID}))
    return Suite(path, tuned=None)


def runner(suite: Suite, tmp_path: Path, world: World, *, grid: str = "quick", **options: Any) -> Runner:
    places = {"results": Results(tmp_path / "results"), "out": tmp_path / "runs"}
    settings: dict[str, Any] = {**places, "facts": FACTS, "start": world.start, **options}
    return Runner(suite, suite.cells(grid), **settings)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.grids.runner.POLL_S", 0.0)


def test_all_cells_run_once_and_leave_rows(suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    assert runner(suite, tmp_path, world).run(workers=2) == {}
    assert world.started == ["qrdqn/seed_0", "iqn/seed_0", "qrdqn/seed_1", "iqn/seed_1"]
    assert world.most == 2
    rows = Results(tmp_path / "results").cells("cartpole")
    found = [(row["algorithm"], row["seed"], row["status"], row["parameters"]) for row in rows]
    assert found == [(name, seed, "done", 5) for name in ("iqn", "qrdqn") for seed in (0, 1)]
    assert rows[0]["versions"] == "torch 1" and rows[0]["machine"] == "here" and rows[0]["git"] == "abc"
    assert [row["score"] for row in Results(tmp_path / "results").curves("cartpole")] == [0.5] * 4
    again = World()
    assert runner(suite, tmp_path, again).run(workers=2) == {}
    assert again.started == []
    assert "0 cells to do, 4 done already, 0 skipped" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["cartpole_*.csv", "cartpole_cells.csv", "cartpole_curves.csv"])
def test_a_run_that_is_done_is_not_done_again_for_a_lost_table(suite: Suite, tmp_path: Path, lost: str) -> None:
    runner(suite, tmp_path, World()).run(workers=2)
    for path in (tmp_path / "results").glob(lost):
        path.unlink()
    world = World()
    runner(suite, tmp_path, world).run(workers=2)
    assert world.started == []
    assert len(Results(tmp_path / "results").measured("cartpole")) == 4


def test_a_failure_is_written_down_and_the_rest_goes_on(suite: Suite, tmp_path: Path) -> None:
    world = World({"iqn/seed_0": [1]})
    failed = runner(suite, tmp_path, world).run(workers=2)
    log = tmp_path / "runs" / "cartpole" / "iqn" / "seed_0" / "log.txt"
    assert failed == {"iqn/cartpole/0": f"exit status 1: MemoryError: too large ({log})"}
    assert len(world.started) == 4
    row = Results(tmp_path / "results").cell("cartpole", "iqn", 0)
    assert row is not None and row["status"] == "failed" and "MemoryError" in row["why"]
    again = World()
    assert runner(suite, tmp_path, again).run(workers=2) == {}
    assert again.started == ["iqn/seed_0"], "what failed is tried again"
    row = Results(tmp_path / "results").cell("cartpole", "iqn", 0)
    assert row is not None and row["status"] == "done" and row["why"] is None


@pytest.mark.parametrize("others", ["refuse", "redo"])
def test_a_killed_cell_goes_on_once(suite: Suite, tmp_path: Path, others: str) -> None:
    """The second start finds what the first one left, also if everything was to be done anew."""
    kept = tmp_path / "runs" / "cartpole" / "iqn" / "seed_0" / "log.txt"
    world = World({"iqn/seed_0": [-9], "iqn/seed_1": [-9, -9]})
    failed = runner(suite, tmp_path, world, others=others).run(workers=2)
    assert world.started.count("iqn/seed_0") == 2 and kept.exists()
    assert list(failed) == ["iqn/cartpole/1"] and "exit status -9" in failed["iqn/cartpole/1"]


def test_a_stopped_cell_is_left_to_the_next_time(suite: Suite, tmp_path: Path) -> None:
    failed = runner(suite, tmp_path, World({"iqn/seed_0": [STOPPED]})).run(workers=2)
    assert failed == {"iqn/cartpole/0": "it was stopped; the same command goes on"}


def test_results_of_other_versions_are_refused_unless_asked_for(suite: Suite, tmp_path: Path) -> None:
    runner(suite, tmp_path, World()).run(workers=2)
    newer = {**FACTS, "versions": {"torch": "2"}}
    with pytest.raises(ConfigError, match="measured otherwise:\n  qrdqn/cartpole/0: versions torch 1; here torch 2"):
        runner(suite, tmp_path, World(), facts=newer).run(workers=2)
    mixed = World()
    runner(suite, tmp_path, mixed, facts=newer, others="take").run(workers=2)
    assert mixed.started == []
    fresh = World()
    runner(suite, tmp_path, fresh, facts=newer, others="redo").run(workers=2)
    assert len(fresh.started) == 4
    assert {row["versions"] for row in Results(tmp_path / "results").cells("cartpole")} == {"torch 2"}


def test_a_run_keeps_what_it_began_with(suite: Suite, tmp_path: Path) -> None:
    """Its table may be lost; a run of other versions is not taken for one of these."""
    runner(suite, tmp_path, World({"iqn/seed_0": [STOPPED]})).run(workers=2)
    later = {**FACTS, "git": "def"}
    runner(suite, tmp_path, World(), facts=later).run(workers=2)
    assert {row["git"] for row in Results(tmp_path / "results").cells("cartpole")} == {"abc"}
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    newer = {**later, "versions": {"torch": "2"}}
    failed = runner(suite, tmp_path, World(), facts=newer).run(workers=2)
    assert len(failed) == 4 and "began with torch 1: --mixed takes it" in failed["iqn/cartpole/0"]
    assert runner(suite, tmp_path, World(), facts=newer, others="take").run(workers=2) == {}
    assert {row["versions"] for row in Results(tmp_path / "results").cells("cartpole")} == {"torch 1"}


def test_a_fresh_start_that_was_interrupted_goes_on(suite: Suite, tmp_path: Path) -> None:
    runner(suite, tmp_path, World()).run(workers=2)
    newer = {**FACTS, "versions": {"torch": "2"}}
    runner(suite, tmp_path, World({"iqn/seed_0": [STOPPED]}), facts=newer, others="redo").run(workers=2)
    left = tmp_path / "runs" / "cartpole" / "iqn" / "seed_0" / "checkpoint"
    left.touch()
    assert runner(suite, tmp_path, World(), facts=newer, others="redo").run(workers=2) == {}
    assert left.exists()


def test_a_damaged_folder_is_one_failed_cell(suite: Suite, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "cartpole" / "iqn"
    for seed, text in enumerate(["a: [", "{}"]):
        (folder / f"seed_{seed}").mkdir(parents=True)
        (folder / f"seed_{seed}" / ("settings.yaml" if seed == 0 else "result.json")).write_text(text)
    world = World()
    failed = runner(suite, tmp_path, world).run(workers=2)
    assert sorted(failed) == ["iqn/cartpole/0", "iqn/cartpole/1"] and len(world.started) == 2
    assert all("remove" in why for why in failed.values())


def test_results_of_a_library_that_is_not_here_stay(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.grids.cells.is_there", lambda name: True)
    runner(suite, tmp_path, World(), grid="peers").run(workers=2)
    monkeypatch.setattr("benchmarks.grids.cells.is_there", lambda name: False)
    monkeypatch.setattr("benchmarks.grids.runner.package_version", lambda name: None)
    made = runner(suite, tmp_path, World(), grid="peers")
    assert made.run(workers=2) == {} and "0 cells to do, 1 done already" in capsys.readouterr().out


def test_results_of_other_settings_are_refused(suite: Suite, tmp_path: Path) -> None:
    runner(suite, tmp_path, World()).run(workers=2)
    suite.tuned = {"cartpole": {"iqn": ["learning_rate=1.0e-3"]}}
    with pytest.raises(ConfigError, match="iqn/cartpole/0: other settings\n  iqn/cartpole/1: other settings\n--mixed"):
        runner(suite, tmp_path, World()).run(workers=2)
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    failed = runner(suite, tmp_path, World()).run(workers=2)
    assert sorted(failed) == ["iqn/cartpole/0", "iqn/cartpole/1"]
    assert "has other settings (learning_rate: 0.002 -> 0.001)" in failed["iqn/cartpole/0"]
    fresh = World()
    assert runner(suite, tmp_path, fresh, others="redo").run(workers=2) == {}
    assert sorted(fresh.started) == ["iqn/seed_0", "iqn/seed_1"]


def test_what_is_not_installed_is_skipped_with_the_line_that_installs_it(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "lacking", lambda cell: ["sb3_contrib"])
    world = World()
    made = runner(suite, tmp_path, world, grid="peers")
    assert made.run(workers=2) == {}
    assert world.started == []
    line = 'sb3_qrdqn/cartpole/0: skipped, sb3_contrib is not installed: pip install -e ".[bench]" -c constraints.txt'
    assert line in capsys.readouterr().out


def test_cells_for_a_gpu_are_skipped_without_one(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.grids.cells.is_there", lambda name: name != "cuda")
    suite.grids["gpu"] = [{"environments": ["atari_pong"], "algorithms": ["iqn"], "seeds": 1}]
    made = runner(suite, tmp_path, World(), grid="gpu")
    assert made.run(workers=2) == {}
    assert "iqn/atari_pong/0: skipped, it needs a CUDA device" in capsys.readouterr().out


def test_peers_run_with_their_own_program(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "lacking", lambda cell: [])
    world = World()
    runner(suite, tmp_path, world, grid="peers").run(workers=2)
    assert world.peers == ["benchmarks.peers.sb3:qrdqn"]
    assert PEER_ARGUMENTS[-1] == "benchmarks.peers.run"
    settings = yaml.safe_load((tmp_path / "runs/cartpole/sb3_qrdqn/seed_0/settings.yaml").read_text())
    assert (settings["peer"], settings["environment"]) == ("benchmarks.peers.sb3:qrdqn", "cartpole")


def test_an_interruption_stops_what_runs(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    made = runner(suite, tmp_path, world)

    def interrupt(folders: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(made, "_show", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.run(workers=2)
    assert sorted(world.stopped) == ["iqn/seed_0", "qrdqn/seed_0"]


def test_results_that_cannot_be_read_are_a_failure(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(run: Path, environment: Any, *, every_frames: int) -> Any:
        raise ValueError("line 3 is no row")

    monkeypatch.setattr("benchmarks.grids.runner.curve_of", damaged)
    failed = runner(suite, tmp_path, World()).run(workers=2)
    folder = tmp_path / "runs" / "cartpole" / "iqn" / "seed_0"
    assert failed["iqn/cartpole/0"] == f"its results cannot be read, remove {folder}: line 3 is no row"


def test_the_command_lists_cells_and_has_a_place_of_its_own_for_a_shortened_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = script("benchmarks/suite.py", "grid=quick", "--list")
    assert listed.returncode == 0 and "open (8): qrdqn/cartpole/0 iqn/cartpole/0" in listed.stdout
    assert list(tmp_path.iterdir()) == []
    row = {"algorithm": "qrdqn", "seed": 0, "status": "done", "versions": "none", "settings": "others"}
    Results(tmp_path / "runs" / "suite_quick" / "tables").put("cartpole", row, [{"which": "seen", "score": 0.5}])
    refused = script("benchmarks/suite.py", "grid=quick", "--list")
    assert refused.returncode == 2 and "suite_quick/tables holds results that were measured otherwise" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quik"], "error: grid=quik: unknown; did you mean quick?"),
        (["quick", "--cells", "iqm"], "error: iqm: no such cell in this grid"),
        (["quick", "--workers", "0"], "error: workers=0"),
    ],
)
def test_the_command_refuses_mistakes(words: list[str], message: str, script: Script) -> None:
    done = script("benchmarks/suite.py", *words)
    assert done.returncode == 2 and done.stderr.startswith(message)


@pytest.mark.slow
def test_cells_of_ours_and_of_peers_run_in_processes(suite: Suite, tmp_path: Path) -> None:
    """Real ones, of 384 frames; then the page of what they found."""
    pytest.importorskip("sb3_contrib")
    pytest.importorskip("tianshou")
    from benchmarks.report import Page

    names = ["dqn", "qrdqn", "btr_floats", "sb3_qrdqn", "tianshou_qrdqn", "tianshou_iqn", "tianshou_fqf"]
    suite.grids["tiny"] = [{"environments": ["cartpole"], "algorithms": names, "seeds": 1, "overrides": TINY}]
    failed = runner(suite, tmp_path, World(), grid="tiny", start=start).run(workers=2)
    assert failed == {}
    results = Results(tmp_path / "results")
    assert sorted(row["algorithm"] for row in results.cells("cartpole")) == sorted(names)
    assert all(row["parameters"] > 1_000 and row["cpu_s"] > 0 for row in results.cells("cartpole"))
    # A peer ends with the collection in which the frames are reached: 10 steps with tianshou's own settings.
    assert all(384 <= row["frames"] < 384 + 10 for row in results.curves("cartpole"))
    assert "| tianshou FQF | 1 |" in Page(suite, results).text()
