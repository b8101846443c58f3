"""Runs in their own processes: who may end them, and what is known of how they ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tm_torchrl.experiments import run_process

CHILD = """
import signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
signal.signal(signal.SIGINT, lambda *_: (folder / "interrupted").touch())
(folder / "ready").touch()
sys.stdin.read()
time.sleep(0.2)
(folder / "saved").touch()
"""
STARTER = """
import sys
from pathlib import Path
from tm_torchrl.experiments.grid import run_grid
from tm_torchrl.experiments.run_process import RunProcess
command = [sys.executable, "-c", sys.argv[2]]
run_grid([Path(sys.argv[1])], start=lambda folder: RunProcess(folder, command=command), ended=lambda *_: False)
"""


def test_ctrl_c_in_a_terminal_is_one_request_to_end(tmp_path: Path) -> None:
    """A terminal sends it to its whole group; a run that got it took stop() for a second one and saved nothing."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), CHILD], start_new_session=True, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(starter.pid, signal.SIGINT)
    starter.communicate(timeout=60)
    assert (tmp_path / "saved").exists()
    assert not (tmp_path / "interrupted").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_ends_without_saving_counts_as_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    run_process.prepare(tmp_path, {"seed": 0})

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tm_torchrl.trainers.run.train", fail)
    with pytest.raises(error):
        run_process.run_in(tmp_path)
    assert run_process.count_kills(tmp_path) == 1
    assert json.loads((tmp_path / run_process.UNDER_WAY).read_text())["is_under_way"] is True


def test_a_kill_while_settings_are_written_leaves_a_folder_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.write_text

    def killed(path: Path, text: str, **options: str) -> int:
        whole(path, text[: len(text) // 2], **options)
        raise KeyboardInterrupt

    folder, settings = tmp_path / "run", {"seed": 0, "env": {"track": "oval"}}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            run_process.prepare(folder, settings)
    assert run_process.prepare(folder, settings) == ""
    run_process.note_kills(folder, 3, is_under_way=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            run_process.note_kills(folder, 4, is_under_way=True)
    assert run_process.count_kills(folder) == 4, "3 before, and the one that was under way"
