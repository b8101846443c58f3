"""Videos are complete or absent."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from tm_torchrl.commands import drive
from tm_torchrl.commands.main import run
from tm_torchrl.record import write_video


def pictures(count: int = 5) -> list[np.ndarray]:
    return [np.full((36, 49, 3), 40 * i, np.uint8) for i in range(count)]


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_writes(tmp_path, ending: str):
    path = write_video(iter(pictures()), tmp_path / "deep" / f"a{ending}")
    assert path.stat().st_size > 200
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no leftovers"


def test_gif_holds_every_frame(tmp_path):
    path = write_video(pictures(), tmp_path / "a.gif", fps=20)
    with Image.open(path) as gif:
        assert gif.n_frames == 5
        assert gif.info["duration"] == 50


def test_bad_input_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"path=.*\.mp4 or \.gif"):
        write_video(pictures(), tmp_path / "a.avi")
    with pytest.raises(ValueError, match="at least one picture"):
        write_video([], tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="number 5"):
        write_video([*pictures(), np.zeros((4, 4, 3), np.uint8)], tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="number 0 is float64"):
        write_video([np.zeros((4, 4, 3))], tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


def test_without_ffmpeg_it_is_told_before_anything_is_driven(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(sys, "argv", ["drive", "oval", "--out", "a.mp4"])
    monkeypatch.setattr(drive, "load_track", None)
    with pytest.raises(
        SystemExit, match=r"^error: imageio_ffmpeg is not installed: pip install .tm_torchrl\[report\].$"
    ):
        run("drive")


def test_a_failure_while_drawing_keeps_the_old_video(tmp_path):
    path = write_video(pictures(), tmp_path / "a.gif")
    before = path.read_bytes()

    def broken():
        yield from pictures(2)
        raise RuntimeError("drawing failed")

    with pytest.raises(RuntimeError, match="drawing failed"):
        write_video(broken(), path)
    assert path.read_bytes() == before
