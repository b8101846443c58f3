"""``live=true``: the address is shown once and kept nowhere, and a page that fails costs a line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.trainers import run as run_module
from tm_torchrl.trainers import train
from tm_torchrl.trainers.hooks import live_page
from tm_torchrl.trainers.hooks.display import Display
from tm_torchrl.trainers.hooks.live_page import LivePage

ADDRESS = "http://127.0.0.1:8000/secret/"
SETTINGS = ["env=gym", "env.name=CartPole-v1", "total_frames=1024", "collector=single", "log.tensorboard=false",
            "evaluation.num=1"]  # fmt: skip


class FakeProcess:
    """A process whose second answer is an address, or an error."""

    made: list[FakeProcess] = []  # noqa: RUF012
    problem: str = ""

    def __init__(self, run: Path, *, port: int) -> None:
        self.run, self.port, self.asked, self.is_closed = run, port, 0, False
        self.made.append(self)

    def address(self) -> str | None:
        self.asked += 1
        if self.asked == 2 and self.problem:
            raise OSError(self.problem)
        return ADDRESS if self.asked > 1 else None

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[FakeProcess]:
    monkeypatch.setattr(live_page, "PageProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "made", [])
    monkeypatch.setattr(FakeProcess, "problem", "")
    return FakeProcess.made


def hook_in(folder: Path, *, port: int = 0) -> tuple[LivePage, list[str], list[str], Any]:
    """An open hook, what it shows, what it logs, and a training."""
    shown: list[str] = []
    logged: list[str] = []
    hook, training = LivePage(port=port, show=shown.append, log=logged.append), None
    hook.open(training, RunFolder(folder))  # type: ignore[arg-type]
    return hook, shown, logged, training


def test_the_address_is_shown_once(tmp_path: Path, processes: list[FakeProcess]) -> None:
    hook, shown, logged, training = hook_in(tmp_path)
    for _ in range(4):
        hook.after_batch(training)
    hook.close()
    assert (shown, logged) == ([f"live page: {ADDRESS}"], [])
    assert [(process.run, process.port, process.is_closed) for process in processes] == [(tmp_path, 0, True)]


@pytest.mark.parametrize(("port", "setting"), [(0, "live=true"), (8000, "live=8000")])
def test_a_page_that_fails_is_logged_once(
    tmp_path: Path, processes: list[FakeProcess], monkeypatch: pytest.MonkeyPatch, port: int, setting: str
) -> None:
    monkeypatch.setattr(FakeProcess, "problem", "OSError: in use")
    hook, shown, logged, training = hook_in(tmp_path, port=port)
    for _ in range(4):
        hook.after_batch(training)
    hook.close()
    assert (shown, logged) == ([], [f"{setting}: there is no page of this run (OSError: in use); training goes on"])
    assert processes[0].is_closed


def test_a_process_that_cannot_start_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(live_page, "PageProcess", refuse)
    hook, shown, logged, training = hook_in(tmp_path)
    hook.after_batch(training)
    hook.close()
    assert shown == [] and "no memory" in logged[0]


@pytest.mark.parametrize(("live", "port"), [("true", 0), ("8000", 8000)])
def test_a_training_has_the_page_and_writes_the_address_nowhere(
    tmp_path: Path, processes: list[FakeProcess], monkeypatch: pytest.MonkeyPatch, live: str, port: int
) -> None:
    console = Console(file=io.StringIO(), width=100)
    monkeypatch.setattr(run_module, "Display", lambda title, is_quiet: Display(title, console=console))
    train([*SETTINGS, f"live={live}"], folder=tmp_path / "run")
    assert console.file.getvalue().count(ADDRESS) == 1  # type: ignore[attr-defined]
    assert [(process.run, process.port, process.is_closed) for process in processes] == [(tmp_path / "run", port, True)]
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert kept == []
