"""Every command about a run takes a run folder, a folder of runs, or latest."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from tm_torchrl.commands.main import run
from tm_torchrl.commands.parser import run_folder
from tm_torchrl.record.run_folder import save_lap


@pytest.mark.parametrize("command", ["report", "compare", "evaluate", "watch", "export", "replay"])
@pytest.mark.parametrize("word", ["latest", "runs", "runs/oval"])
def test_the_newest_run_is_meant(
    command: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is empty, so that most commands refuse it, after they have said which one it is."""
    folder = Path("runs") / "oval" / "2026"
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tm-torchrl", word])
    with contextlib.suppress(SystemExit):
        run(command)
    assert f"run: {folder}\n" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "watch"])
def test_a_track_may_come_after_options(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word in the wrong form is refused with a suggestion; in the right one it reaches the empty run."""
    (tmp_path / "config.yaml").touch()
    for word, end in (("trak=oval", 2), ("track=oval", f"error: {tmp_path}")):
        monkeypatch.setattr(sys, "argv", ["tm-torchrl", str(tmp_path), "--laps", "2", word])
        with pytest.raises(SystemExit) as ended:
            run(command)
        assert str(ended.value.code).startswith(str(end))
    assert "trak=oval: must be track=NAME; did you mean track=oval?" in capsys.readouterr().err


def test_a_mistake_in_the_command_line_needs_no_torch() -> None:
    code = """
import sys
from tm_torchrl.commands.main import run
sys.argv[1:] = ["latest", "trak=oval"]
try:
    run("evaluate")
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[broken", "config.yaml is damaged"),
        ("env: 5", "config.yaml is damaged: it has no settings of an env; give --track NAME"),
        ("optimizer: {}", "config.yaml is damaged: it has no settings of an env; give --track NAME"),
        ("env: {tracks: 7}", "oval_28500.npz: actions: "),  # which come after the track was found
    ],
)
def test_a_lap_beside_broken_settings(settings: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(settings)
    path = save_lap(tmp_path, "oval", 28.5, actions=np.array(["text"]))
    with pytest.raises(SystemExit, match=f"^error: .*{message}"), patch("sys.argv", ["tm-torchrl", str(path)]):
        run("replay")


def test_files_are_not_searched_for_runs(tmp_path: Path) -> None:
    (tmp_path / "best.inputs").touch()
    assert run_folder(str(tmp_path / "best.inputs")) == tmp_path / "best.inputs"
