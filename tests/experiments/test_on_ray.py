"""Runs in a simulated cluster: their files, kills, nodes that do not reach the folder, and the whole command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.collectors.test_supervised import needs_ray, posix
from tm_torchrl.commands.parser import add_ray, parser_for
from tm_torchrl.experiments import on_ray
from tm_torchrl.experiments.on_ray import RayRun, ray_runs
from tm_torchrl.experiments.run_actor import RunActor, pack, unpack
from tm_torchrl.experiments.run_process import STOPPED, UNDER_WAY, prepare

WORK = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
with open(folder / "lives.txt", "a") as lives:
    lives.write(f"{os.getppid()}\\n")
while not (folder / "go").exists():
    time.sleep(0.05)
(folder / "result.json").write_text("{}")
"""
UNTIL_STOPPED = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "run").mkdir()
(folder / "run" / "rows").touch()
Path("READY").touch()
sys.stdin.read()
(folder / "saved").touch()
raise SystemExit(3)
"""


class Elsewhere(RunActor):
    """On a node that does not reach the starter's folder."""

    def reaches(self, mark: str, text: str) -> bool:
        return False


@pytest.fixture
def begin(ray_cluster: Any, tmp_path: Path) -> Any:
    """Starts runs of a program, which end with the test."""
    runs: list[RayRun] = []

    def started(program: str, *, log: Any = lambda message: None) -> RayRun:
        folder = tmp_path / "out"
        assert prepare(folder, {"seed": 0}) == ""
        runs.append(RayRun(folder, resources={"CPU": 1.0}, arguments=["-c", program], log=log))
        return runs[-1]

    yield started
    for run in runs:
        run.stop()


Begin = Callable[..., RayRun]


def until(run: RayRun, is_there: Callable[[], bool], *, within_s: float = 120.0) -> None:
    """Poll a run until something is so."""
    end = time.monotonic() + within_s
    while not is_there():
        run.poll()
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def ended(run: RayRun) -> int:
    until(run, lambda: run.poll() is not None)
    status = run.poll()
    assert status is not None
    return status


def test_packed_files_come_back_without_the_replay_and_replace_what_was_there(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for path in ("result.json", "log.txt", "run/a.txt", "run/replay/memory/rows.bin"):
        (theirs / path).parent.mkdir(parents=True, exist_ok=True)
        (theirs / path).write_text(path)
    (ours / "run" / "replay").mkdir(parents=True)
    for path in ("run/old.txt", "run/replay/old.bin", "kept.txt"):
        (ours / path).write_text("old")
    unpack(pack(theirs), ours)
    found = {path.relative_to(ours).as_posix(): path.read_text() for path in ours.rglob("*") if path.is_file()}
    assert found == {"kept.txt": "old", **{name: name for name in ("result.json", "log.txt", "run/a.txt")}}


def test_without_ray_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape('pip install "tm_torchrl[ray]"')):
        ray_runs()
    with pytest.raises(ValueError, match="resources: CPU=-1"):
        ray_runs([("CPU", -1.0)])


def test_resources_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = parser_for("ablate", "")
    add_ray(parser)
    args = parser.parse_args(["--on", "ray", "--resources", "CPU=2", "game=0.5"])
    assert dict(args.resources) == {"CPU": 2.0, "game": 0.5}
    with pytest.raises(SystemExit):
        parser.parse_args(["--resources", "CPU"])
    assert "CPU: must be NAME=AMOUNT" in capsys.readouterr().err


@needs_ray
@posix
def test_a_run_whose_actor_is_killed_is_started_again(begin: Begin) -> None:
    messages: list[str] = []
    run = begin(WORK, log=messages.append)
    lives = run.folder / "lives.txt"
    until(run, lambda: lives.exists() and lives.read_text().endswith("\n"))
    os.kill(int(lives.read_text()), signal.SIGKILL)
    until(run, lambda: lives.read_text().count("\n") == 2)
    (run.folder / "go").touch()
    assert ended(run) == 0
    assert (run.folder / "result.json").exists()
    assert len(messages) == 1
    assert re.search(r"its actor ended.*its process was killed or crashed\. The run is started again", messages[0])


@needs_ray
@posix
@pytest.mark.parametrize("actor", [RunActor, Elsewhere])
def test_a_run_that_is_stopped_saves(
    actor: type[RunActor], begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files come back from a node that has none of the starter's; there it counts as killed: no replay comes."""
    monkeypatch.setattr(on_ray, "RunActor", actor)
    run = begin(UNTIL_STOPPED.replace("READY", str(tmp_path / "ready")))
    until(run, (tmp_path / "ready").exists)
    assert run.stop() == STOPPED
    assert (run.folder / "saved").exists() and (run.folder / "run" / "rows").exists()
    if actor is Elsewhere:
        assert json.loads((run.folder / UNDER_WAY).read_text()) == {"num_kills": 0, "is_under_way": True}


@needs_ray
@posix
def test_a_run_that_is_lost_too_often_fails(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "MAX_LOSSES", 1)
    run = begin("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    assert ended(run) == on_ray.FAILED
    assert "it was lost 1 times; at last, its actor ended" in (run.folder / "log.txt").read_text()


@pytest.mark.slow
@needs_ray
@posix
def test_the_command_on_a_ray_of_its_own(tmp_path: Path) -> None:
    """A baseline and an experiment; the second call has nothing to do."""
    token = tmp_path / "token"
    token.write_text("0" * 64)
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "RAY_ADDRESS": "local", "RAY_AUTH_TOKEN_PATH": str(token)}
    command = [sys.executable, "-m", "tm_torchrl", "ablate", "gamma=0.9", "--baseline", "cartpole_iqn", "--on", "ray"]
    command += ["--seeds", "0", "--out", str(tmp_path / "out"), "--frames", "1024", "--with", "evaluation.num=1"]
    for is_first in (True, False):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert ("gamma=0.9, seed 0: runs" in done.stdout) is is_first
    assert "| gamma=0.9 | cartpole_iqn | 1 of 1 |" in (tmp_path / "out" / "table.md").read_text()
