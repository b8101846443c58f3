"""Scripts run from any folder, say where they wrote, and refuse bad input in a line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Script
from tm_torchrl.tracks import blocks

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture
def run(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs a script in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda name, *words: script(f"scripts/{name}", *words)


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_help(name: str, run: Script):
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert re.search(r"tm-torchrl [a-z]", done.stdout), "the help shows how to call it"


def test_a_script_starts_from_any_folder(tmp_path: Path):
    command = [sys.executable, str(SCRIPTS / "show_tracks.py"), "ovel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "did you mean oval" in done.stderr


def test_show_tracks(run: Script, tmp_path: Path):
    done = run("show_tracks.py", "oval", "--out", "here/oval.png")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "here" / "oval.png") in done.stdout
    assert (tmp_path / "here" / "oval.png").stat().st_size > 5000


def test_drive(run: Script, tmp_path: Path):
    done = run("drive.py", "oval", "--driver", "author", "--seconds", 0.5, "--out", "a.gif")
    assert done.returncode == 0, done.stderr
    assert "stopped by the time limit after 0.50 s" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"a.gif", "a.png"}
    assert done.stderr.strip() == "", "nothing but what it has to say"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("show_tracks.py", "ovel"), "did you mean oval"),
        (("drive.py", "oval", "--out", "a.avi"), "must end in .mp4 or .gif"),
        (("drive.py", "missing.npz"), "missing.npz"),
        (("optimize_lap.py", "ovel"), "did you mean oval"),
        (("optimize_lap.py", "oval", "--cars", "0"), "error: --cars 0: num_cars=0: must be at least"),
        (("optimize_lap.py", "oval", "--minutes", "nan"), "error: --minutes nan: must be positive"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], text: str, run: Script, tmp_path: Path):
    done = run(*arguments)
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_optimize_lap_goes_on_where_it_was(run: Script, tmp_path: Path):
    blocks("SSLSS", name="short").save(tmp_path / "short.npz")
    for passes in (1, 2):
        done = run("optimize_lap.py", "short.npz", "--out", "lap.json", "--minutes", 0.0001, "--cars", 1024)
        assert done.returncode == 0, done.stderr
        journal = json.loads((tmp_path / "lap.json").read_text())
        assert journal["passes"] == passes
    assert journal["gains"][0][1] >= journal["time_s"]
    other = run("optimize_lap.py", "oval", "--out", "lap.json")
    assert "belongs to track 'short'" in other.stderr
    (tmp_path / "lap.json").write_text("{")
    assert "is no file of this script" in run("optimize_lap.py", "oval", "--out", "lap.json").stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes as POSIX has them")
def test_help_may_be_cut_short(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "train_iqn.py"), "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0
