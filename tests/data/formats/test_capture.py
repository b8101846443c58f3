"""Captures of the game: made by hand in the layout of rulka's scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tm_torchrl.commands.convert import convert
from tm_torchrl.data import DamagedFileError, DemonstrationFolder
from tm_torchrl.tracks import load_track
from tm_torchrl.world.observation import observation_layout

LAYOUT = observation_layout()
OVAL = load_track("oval")


def meta(time_ms: int) -> dict[str, Any]:
    """Numbers that say where they stand; the car looks along the world's first axis, with its roof up."""
    return {
        "time_ms": time_ms,
        "gear_and_wheels": list(range(32)),
        "angular_velocity": [1.0, 2.0, 3.0],
        "velocity": [0.0, 0.0, time_ms / 10],
        "orientation_flat": [0.0, 0.0, -1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
        "zone_centers_in_car_frame": [float(n) for n in range(120)],
        "margin": 600.0,
        "is_freewheeling": 1.0,
    }


def write(
    folder: Path, *, num: int = 7, step_ms: int = 50, change: Callable[[dict[str, Any]], Any] = lambda _: None
) -> Path:
    """A replay whose picture n has the level 20 + 10 n, and action n."""
    folder.mkdir(parents=True)
    entries = []
    for n in range(num):
        name = f"frame_{n:05d}_{n * step_ms}ms.jpeg"
        Image.new("L", (256, 256), 20 + 10 * n).save(folder / name)
        entries.append({"file": name, "step": n, "time_ms": n * step_ms, "inputs": {}, "action_idx": n % 12})
    manifest = {"entries": entries, "meta": [meta(n * step_ms) for n in range(num)]}
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_capture_becomes_laps(tmp_path: Path) -> None:
    write(tmp_path / "img/A01/replay1")
    write(tmp_path / "img/A01/replay2", num=3)
    convert(tmp_path / "img/A01", tmp_path / "laps", to="laps", track=OVAL)
    found = DemonstrationFolder(tmp_path / "laps")
    assert found.lap_frames.tolist() == [7, 3] and found.lap_time_s.tolist() == [0.3, 0.1]
    assert found.description.driver == "imported from captures of A01" and found.description.image_size == 64
    frames = np.arange(7)
    assert found.rows("action", frames).tolist() == list(range(7))
    assert found.rows("pixels", frames)[:, 0, 5, 5].tolist() == [20 + 10 * n for n in range(7)]
    floats = found.rows("observation", frames)
    assert floats[2, LAYOUT["velocity"]].tolist() == [0.0, 0.0, 10.0]
    assert floats[2, LAYOUT["up"]].tolist() == [0.0, 1.0, 0.0]
    assert floats[2, LAYOUT["wheel_is_sliding"]].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert floats[2, LAYOUT["wheel_material"]].tolist() == list(range(16, 32))
    assert floats[2, LAYOUT["zones_ahead"]].tolist() == list(range(120))
    assert floats[2, LAYOUT["margin_to_finish"]].tolist() == [600.0] and floats[2, -1] == 1.0
    # gas, brake, left, right: gas before the first action; action 0 is gas, action 1 gas and left
    assert floats[2, LAYOUT["previous_actions"]].tolist() == [1, 0, 0, 0] * 4 + [1, 0, 1, 0]


def test_pictures_every_10_ms_are_thinned(tmp_path: Path) -> None:
    write(tmp_path / "A01/replay", num=12, step_ms=10)
    convert(tmp_path / "A01/replay", tmp_path / "laps", to="laps", track=OVAL)
    found = DemonstrationFolder(tmp_path / "laps")
    assert found.rows("pixels", np.arange(3))[:, 0, 0, 0].tolist() == [20, 70, 120]
    assert found.rows("action", np.arange(3)).tolist() == [0, 5, 10]


def lacks_picture(manifest: dict[str, Any]) -> None:
    manifest["entries"][2]["file"] = "frame_00099_100ms.jpeg"


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a frame is missing": (lambda m: m["entries"].pop(3), "frames are missing; there must be one every 50 ms"),
    "no frames": (lambda m: m["entries"].clear(), "frames are missing"),
    "a picture is missing": (lacks_picture, r"frame_00099_100ms\.jpeg: is missing"),
    "a picture elsewhere": (
        lambda m: m["entries"][2].update(file="../../x.jpeg"),
        "file='../../x.jpeg' is not the name",
    ),
    "another action": (lambda m: m["entries"][2].update(action_idx=12), "action_idx=12; must be 0 to 11"),
    "no action": (lambda m: m["entries"][2].pop("action_idx"), "action_idx=None"),
    "no floats": (lambda m: m.pop("meta"), "has no floats"),
    "no floats once": (lambda m: m["meta"].pop(4), "has no floats .* at 200 ms"),
    "other floats": (lambda m: m["meta"][4].update(velocity=[1.0]), "velocity at 200 ms has 1 numbers; must have 3"),
    "no numbers": (lambda m: m["meta"][4].update(velocity="fast"), "velocity at 200 ms is missing or no numbers"),
    "not finite": (lambda m: m["meta"][4].update(margin=float("nan")), "observation is not finite"),
    "no entries": (lambda m: m.pop("entries"), "is no manifest of a capture"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_damaged_is_refused_by_name(tmp_path: Path, name: str) -> None:
    change, message = CHANGES[name]
    write(tmp_path / "A01/replay", change=change)
    with pytest.raises((DamagedFileError, ValueError), match=message):
        convert(tmp_path / "A01", tmp_path / "laps", to="laps", track=OVAL)
    assert not (tmp_path / "laps").exists()


def test_a_picture_that_is_none(tmp_path: Path) -> None:
    replay = write(tmp_path / "A01/replay")
    (replay / "frame_00002_100ms.jpeg").write_bytes(b"GIF89a")
    with pytest.raises(DamagedFileError, match=r"frame_00002_100ms\.jpeg: is missing or no picture"):
        convert(tmp_path / "A01", tmp_path / "laps", to="laps", track=OVAL)


def test_the_track_must_be_given_and_be_one(tmp_path: Path) -> None:
    write(tmp_path / "img/A01/replay")
    with pytest.raises(ValueError, match="give --track"):
        convert(tmp_path / "img/A01", tmp_path / "laps", to="laps", track=None)
    write(tmp_path / "img/A02/replay")
    with pytest.raises(ValueError, match=r"several tracks \(A01, A02\)"):
        convert(tmp_path / "img", tmp_path / "laps", to="laps", track=OVAL)
