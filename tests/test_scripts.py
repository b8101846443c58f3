"""Scripts run from any folder, say where they wrote, and refuse bad input in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def run(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_help(name: str, tmp_path: Path):
    done = run(name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"python scripts/{name}" in done.stdout, "the help shows how to call it"


def test_show_tracks(tmp_path: Path):
    done = run("show_tracks.py", "oval", "--out", "here/oval.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "here" / "oval.png") in done.stdout
    assert (tmp_path / "here" / "oval.png").stat().st_size > 5000


def test_drive(tmp_path: Path):
    done = run("drive.py", "oval", "--driver", "author", "--seconds", 0.5, "--out", "a.gif", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "time_limit after 0.50 s" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"a.gif", "a.png"}
    assert done.stderr.strip() == "", "nothing but what it has to say"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("show_tracks.py", "ovel"), "did you mean oval"),
        (("drive.py", "oval", "--out", "a.avi"), "videos end in .mp4 or .gif"),
        (("drive.py", "missing.npz"), "missing.npz"),
        (("optimize_lap.py", "ovel"), "did you mean oval"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], text: str, tmp_path: Path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_optimize_lap_goes_on_where_it_was(tmp_path: Path):
    track = "from tm_torchrl.tracks import blocks; blocks('SSLSS', name='short').save('short.npz')"
    subprocess.run([sys.executable, "-c", track], cwd=tmp_path, check=True)
    for passes in (1, 2):
        done = run(
            "optimize_lap.py", "short.npz", "--out", "lap.json", "--minutes", 0.0001, "--cars", 1024, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        journal = json.loads((tmp_path / "lap.json").read_text())
        assert journal["passes"] == passes
    assert journal["gains"][0][1] >= journal["time_s"]
    other = run("optimize_lap.py", "oval", "--out", "lap.json", cwd=tmp_path)
    assert "belongs to track 'short'" in other.stderr
    (tmp_path / "lap.json").write_text("{")
    assert "is no file of this script" in run("optimize_lap.py", "oval", "--out", "lap.json", cwd=tmp_path).stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes as POSIX has them")
def test_help_may_be_cut_short(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "train_iqn.py"), "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0
