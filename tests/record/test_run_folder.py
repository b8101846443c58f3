"""Files of a run folder stay consistent after kills, resumes and full disks."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tm_torchrl.record.run_folder import (
    RunFolder,
    best_laps,
    lap_rows,
    load_lap,
    load_time,
    read_evaluations,
    read_metrics,
    save_lap,
    save_script,
)
from tm_torchrl.world.car_row import CAR_ROW


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "a run" / "Kurve ü 曲")


def table(run: RunFolder) -> list[dict[str, str]]:
    with open(run.path / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_on_the_disk_as_soon_as_they_are_written(run: RunFolder):
    run.metrics.write(frames=100, seconds=1.23456, values={"train/loss": 0.5})
    run.metrics.write(frames=200, seconds=2.0, values={"train/loss": 0.25})
    assert read_metrics(run.path) == [
        {"frames": 100, "seconds": 1.235, "train/loss": 0.5},
        {"frames": 200, "seconds": 2.0, "train/loss": 0.25},
    ]
    assert [row["train/loss"] for row in table(run)] == ["0.5", "0.25"]


def test_the_table_gains_columns(run: RunFolder):
    run.metrics.write(frames=1, seconds=0, values={"a": 1.0})
    run.metrics.write(frames=2, seconds=0, values={"a": 2.0, "b": 3.0})
    run.metrics.write(frames=3, seconds=0, values={"b": 4.0})
    assert [(row["frames"], row["a"], row["b"]) for row in table(run)] == [
        ("1", "1.0", ""),
        ("2", "2.0", "3.0"),
        ("3", "", "4.0"),
    ]


def test_a_line_that_a_kill_cut_is_skipped(run: RunFolder):
    run.metrics.write(frames=1, seconds=0, values={"a": 1.0})
    path = run.path / "metrics.jsonl"
    with open(path, "ab") as file:
        file.write(b'{"frames": 2, "seco')
    with open(run.path / "metrics.csv", "ab") as file:
        file.write(b"2,0")
    assert [row["frames"] for row in read_metrics(run.path)] == [1]
    again = RunFolder(run.path)
    again.metrics.write(frames=3, seconds=0, values={"a": 3.0})
    assert [row["frames"] for row in read_metrics(run.path)] == [1, 3]
    assert [row["frames"] for row in table(run)] == ["1", "3"], "the table has no half row either"
    path.write_bytes(path.read_bytes() + b"\xff\x00\x00\n25\nnull\n")
    assert [row["frames"] for row in read_metrics(run.path)] == [1, 3]


def test_a_line_with_other_frames_than_a_number_is_skipped(run: RunFolder):
    run.metrics.write(frames=1, seconds=0, values={"a": 1.0})
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"frames": "x"}\n{"frames": [2]}\n')
    run.truncate_after(10)
    assert [row["frames"] for row in read_metrics(run.path)] == [1]


def test_a_pipe_in_place_of_the_metrics_is_not_waited_for(run: RunFolder):
    getattr(os, "mkfifo", os.mkdir)(run.path / "metrics.jsonl")
    with pytest.raises(OSError, match="must be a regular file"):
        read_metrics(run.path)


def test_a_resumed_run_shows_no_row_twice(run: RunFolder):
    for frames in (10, 20, 30):
        run.metrics.write(frames=frames, seconds=frames / 10, values={"a": frames})
        run.add_evaluation({"frames": frames, "finish_rate": 0.5})
    again = RunFolder(run.path)
    again.truncate_after(20)
    assert [row["frames"] for row in read_metrics(run.path)] == [10, 20]
    assert [row["frames"] for row in read_evaluations(run.path)] == [10, 20]
    assert [row["frames"] for row in table(run)] == ["10", "20"]
    again.metrics.write(frames=30, seconds=3.5, values={"a": -1.0})
    assert [(row["frames"], row["seconds"]) for row in table(run)] == [("10", "1.0"), ("20", "2.0"), ("30", "3.5")]
    again.truncate_after(0)
    assert read_metrics(run.path) == [] and not (run.path / "metrics.csv").exists()


def test_after_a_full_disk_the_table_is_rewritten(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    run.metrics.write(frames=1, seconds=0, values={"a": 1.0})
    with monkeypatch.context() as full:

        def no_space(writer: object, row: object) -> None:
            with open(run.path / "metrics.csv", "a", encoding="utf-8") as file:
                file.write("2,")
            raise OSError("no space left on device")

        full.setattr(csv.DictWriter, "writerow", no_space)
        with pytest.raises(OSError, match="no space"):
            run.metrics.write(frames=2, seconds=0, values={"a": 2.0})
    run.metrics.write(frames=3, seconds=0, values={"a": 3.0})
    assert [row["frames"] for row in table(run)] == ["1", "2", "3"]


def test_only_the_fastest_lap_of_a_track_is_kept(tmp_path: Path):
    for track, time_s in (("oval", 30.0), ("oval_2", 50.0), ("oval", 28.5), ("oval", 29.0)):
        save_lap(tmp_path, track, time_s, rows=np.full((2, 3), time_s, np.float32), actions=np.zeros(1, np.int64))
    assert sorted(path.name for path in (tmp_path / "laps").iterdir()) == ["oval_28500.npz", "oval_2_50000.npz"]
    laps = best_laps(tmp_path)
    assert {track: load_time(path) for track, path in laps.items()} == {"oval": 28.5, "oval_2": 50.0}
    assert load_lap(laps["oval"])["rows"].tolist() == [[28.5] * 3] * 2


@pytest.mark.parametrize("name", ["../up", "a:b", "A [1] *?", "Spaß", "50%_off"])
def test_a_lap_of_any_track_stays_in_its_folder(tmp_path: Path, name: str):
    path = save_lap(tmp_path / "run", name, 1.5, rows=np.zeros(1))
    assert path.parent == tmp_path / "run" / "laps" and path.is_file()
    assert not set(path.name) & set('/\\:*?"<>|'), "a name for every system"
    assert best_laps(tmp_path / "run") == {name: path}


def test_laps_hold_no_objects(tmp_path: Path):
    path = tmp_path / "laps" / "oval_1000.npz"
    path.parent.mkdir()
    np.savez(path, rows=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="must be plain numbers"):
        load_lap(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"actions": np.zeros(2, np.int64)},
        {"rows": np.zeros((5, 3), np.float32)},
        {"rows": np.full((5, CAR_ROW.size), np.nan, np.float32)},
        {"rows": np.full((5, CAR_ROW.size), "text")},
        {"rows": np.zeros((0, CAR_ROW.size), np.float32)},
    ],
    ids=["no rows", "shape", "not finite", "text", "empty"],
)
def test_rows_that_no_lap_has(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = save_lap(tmp_path, "oval", 28.5, **arrays)
    with pytest.raises(ValueError, match=r"oval_28500.*rows.*Delete the file"):
        lap_rows(path)
    with pytest.raises(ValueError, match=r"nonumber\.npz: the name of a lap ends in"):
        load_time(tmp_path / "nonumber.npz")


def test_a_lap_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    """Zeros shrink by a factor of 1,000."""
    path = tmp_path / "oval_1000.npz"
    np.savez_compressed(path, rows=np.zeros(2**22, np.float64), actions=np.zeros(2**22, np.float64), more=np.zeros(1))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"oval_1000\.npz has 67,109,\d+ bytes when unpacked"):
        load_lap(path)
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"oval_1000\.npz is damaged"):
        load_lap(path)


def test_facts_tell_what_made_the_run(run: RunFolder):
    run.write_facts({"seed": 3, "command": ["train_iqn.py"]})
    run.write_config("env:\n  track: Spaß\n")
    facts = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert facts["seed"] == 3 and facts["packages"]["torch"].startswith("2.")
    assert {"started", "git", "python", "platform", "command"} <= facts.keys()
    assert "Spaß" in (run.path / "config.yaml").read_text(encoding="utf-8")


def test_a_full_disk_leaves_the_configuration_that_was_there(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run writes it again; without it nobody could read the run any more."""
    run.write_config("seed: 1\n")
    write_text = Path.write_text

    def fill(path: Path, text: str, **options: str) -> int:
        write_text(path, text[:3], **options)
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(OSError, match="No space left"):
        run.write_config("seed: 2\n")
    assert (run.path / "config.yaml").read_text(encoding="utf-8") == "seed: 1\n"


def test_the_fastest_lap_and_the_fastest_script_are_kept(tmp_path: Path):
    for time_s in (9.0, 8.5, 9.5):
        save_lap(tmp_path, "oval", time_s, rows=np.zeros(1))
        save_script(tmp_path, "oval", time_s + 0.1, f"0.00-{time_s} press up")
    assert sorted(path.name for path in (tmp_path / "laps").iterdir()) == ["oval_8500.npz", "oval_8600.inputs"]
    assert (tmp_path / "laps" / "oval_8600.inputs").read_text() == "0.00-8.5 press up\n"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_in_a_run_folder_are_replaced_and_not_followed(tmp_path: Path) -> None:
    """Those of a report's or a video's file too: all are written with ``replacing``."""
    run, other = tmp_path / "run", tmp_path / "other"
    (run / "laps").mkdir(parents=True)
    names = ["config.yaml", "metrics.csv", "run.json", "laps/oval_1500.npz"]
    for name in ["metrics.jsonl", "evaluations.jsonl", "metrics.csv", *(f"{name}.partial" for name in names)]:
        (run / name).symlink_to(other)
    folder = RunFolder(run)
    for frames in (1, 2):
        folder.metrics.write(frames=frames, seconds=0, values={"a": 1.0})
        folder.add_evaluation({"frames": frames})
    folder.write_config("seed: 1")
    folder.write_facts({})
    save_lap(run, "oval", 1.5, rows=np.zeros(1))
    assert not other.exists()
    assert len(read_metrics(run)) == len(read_evaluations(run)) == 2
    assert not any(path.is_symlink() for path in run.rglob("*"))
