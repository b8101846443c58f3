"""The folder of a run: its files, and functions that read them."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import platform
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from tm_torchrl.data.saving.atomic_files import replacing, without_link
from tm_torchrl.settings.text_files import read_text
from tm_torchrl.tracks.files.array_files import MAX_BYTES, read_arrays
from tm_torchrl.world.car_row import CAR_ROW

Row = dict[str, Any]

MESSAGES = "messages.jsonl"  # of a training to its user
MOST_LOG_BYTES = 2**30  # of a run of a few million rows, which must be a mistake
PACKAGES = ("tm_torchrl", "torch", "torchrl", "tensordict", "warp-lang", "gymnasium", "numpy")


class MetricsLog:
    """Rows of numbers in ``metrics.jsonl``, each on the disk when written, and a table of them in ``metrics.csv``.

    A row with a new name rewrites the table with one more column; other rows are appended to it.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = MetricsLog(Path(folder))
        ...     log.write(frames=512, seconds=1.5, values={"train/loss": 0.25})
        ...     read_metrics(folder)
        [{'frames': 512, 'seconds': 1.5, 'train/loss': 0.25}]
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self.table = folder / "metrics.csv"
        self._columns: list[str] = []  # of the table, as this object wrote it

    def write(self, *, frames: int, seconds: float, values: Mapping[str, float]) -> None:
        """Append a row of values by name."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}  # JSON has no other numbers
        row = {"frames": frames, "seconds": round(seconds, 3), **finite}
        append_line(self.path, row)
        if not row.keys() <= set(self._columns):
            self.write_table()
            return
        columns, self._columns = self._columns, []  # if this write fails, the next row rewrites the table
        with open(without_link(self.table), "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, columns).writerow(row)
        self._columns = columns

    def truncate_after(self, frames: int) -> None:
        """Delete rows after a number of frames, which a resumed run will write again."""
        self._columns = []
        truncate_lines(self.path, frames)
        self.write_table()

    def write_table(self) -> None:
        """Write ``metrics.csv`` with a column for every name that occurs."""
        rows = read_lines(self.path)
        if not rows:
            self.table.unlink(missing_ok=True)
            return
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with replacing(self.table) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        self._columns = columns


class RunFolder:
    """The folder of one run, which is created if it is missing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        for folder in (self.path, self.laps):
            folder.mkdir(parents=True, exist_ok=True)
        self.metrics = MetricsLog(self.path)
        self._config: str | None = None

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints and the best network."""
        return self.path / "checkpoints"

    @property
    def replay(self) -> Path:
        """Folder of the saved replay."""
        return self.path / "replay"

    @property
    def laps(self) -> Path:
        """Folder of each track's best lap, ``TRACK_MS.npz``, and its best from the start line, ``TRACK_MS.inputs``."""
        return self.path / "laps"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    def write_config(self, text: str) -> None:
        """Write or replace ``config.yaml``, the resolved configuration, without which the run cannot be read."""
        with replacing(self.path / "config.yaml") as partial:
            partial.write_text(text, encoding="utf-8")
        self._config = text

    def mend(self) -> None:
        """Write ``config.yaml`` again if somebody has deleted the folder meanwhile."""
        if self._config is not None and not (self.path / "config.yaml").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_config(self._config)

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write ``run.json``: time, machine and versions, with further facts."""
        found = {
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "git": git_hash(Path(__file__).parent),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: package_version(name) for name in PACKAGES},
            **facts,
        }
        with replacing(self.path / "run.json") as partial:
            partial.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")

    def add_evaluation(self, row: Mapping[str, Any]) -> None:
        """Append the results of an evaluation on one track, or of a task without tracks."""
        append_line(self.path / "evaluations.jsonl", row)

    def truncate_after(self, frames: int, *, evaluated: int | None = None) -> None:
        """Delete metrics after a number of frames, and evaluations after as many, or after ``evaluated``."""
        self.metrics.truncate_after(frames)
        for name in ("evaluations.jsonl", "ghosts.jsonl"):
            truncate_lines(self.path / name, frames if evaluated is None else evaluated)

    def close(self) -> None:
        """Write the table of metrics, unless the disk refuses it."""
        with contextlib.suppress(OSError):
            self.metrics.write_table()


def read_metrics(run: str | Path) -> list[Row]:
    """The rows of ``metrics.jsonl`` without incomplete lines."""
    return read_lines(Path(run) / "metrics.jsonl")


def read_evaluations(run: str | Path) -> list[Row]:
    """The rows of ``evaluations.jsonl`` without incomplete lines."""
    return read_lines(Path(run) / "evaluations.jsonl")


def save_lap(run: str | Path, track: str, time_s: float, **arrays: np.ndarray) -> Path:
    """Save a lap if it is the fastest of its track, and delete slower ones; returns the file of the fastest.

    Args:
        run: The run folder.
        track: Name of the track.
        time_s: Race time of the lap.
        arrays: ``rows`` and ``actions``, and other arrays of its steps.
    """

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    return _save_fastest(run, track, time_s, ".npz", write)


def save_script(run: str | Path, track: str, time_s: float, script: str) -> Path:
    """Save the keys of a lap if it is the fastest of its track, and delete slower ones; returns the fastest's file.

    Args:
        run: The run folder.
        track: Name of the track.
        time_s: Race time of the lap, which began at rest on the start line.
        script: Its keys in TMInterface's format.
    """
    return _save_fastest(run, track, time_s, ".inputs", lambda path: path.write_text(script + "\n", encoding="utf-8"))


def _save_fastest(run: str | Path, track: str, time_s: float, suffix: str, write: Callable[[Path], object]) -> Path:
    folder = Path(run) / "laps"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{quote(track, safe=' ')}_{round(1000 * time_s)}{suffix}"
    others = [other for other in _lap_files(folder, suffix) if _track_of(other) == track and other != path]
    fastest = min(others, key=load_time, default=None)
    if fastest is not None and load_time(fastest) < time_s:
        return fastest
    with replacing(path) as partial:
        write(partial)
    for other in others:
        other.unlink()
    return path


def best_laps(run: str | Path, *, suffix: str = ".npz") -> dict[str, Path]:
    """Files of the fastest saved lap of each track.

    Args:
        run: The run folder.
        suffix: ``.npz`` for laps, ``.inputs`` for the scripts of laps from the start line.
    """
    files = sorted(_lap_files(Path(run) / "laps", suffix), key=load_time, reverse=True)
    return {_track_of(path): path for path in files}


def _lap_files(folder: Path, suffix: str) -> list[Path]:
    return [path for path in sorted(folder.glob(f"*_*{suffix}")) if path.stem.rpartition("_")[2].isdecimal()]


def _track_of(path: Path) -> str:
    """The name of a lap's track, whose special characters ``quote`` has replaced."""
    return unquote(path.stem.rpartition("_")[0])


def load_time(path: str | Path) -> float:
    """Race time of a saved lap, from its file name.

    >>> load_time("laps/hillside_27630.npz")
    27.63
    """
    milliseconds = Path(path).stem.rpartition("_")[2]
    if not milliseconds.isdecimal():
        raise ValueError(f"{path}: the name of a lap ends in its time in milliseconds, such as oval_28500.npz")
    return int(milliseconds) / 1000.0


def load_lap(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a saved lap; raises ``ValueError`` for a file that is damaged, or far too large for a lap."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    num_bytes = sum(member.file_size for member in members)
    if num_bytes > MAX_BYTES:
        raise ValueError(f"{path} has {num_bytes:,} bytes when unpacked: a lap has at most {MAX_BYTES:,}")
    return read_arrays(path, names=[member.filename.removesuffix(".npy") for member in members])


def lap_rows(path: str | Path) -> np.ndarray:
    """The car rows ``[T, row]`` of a saved lap; raises ``ValueError`` for others than it could have."""
    rows = load_lap(path).get("rows")
    shape = None if rows is None else rows.shape
    if rows is None or rows.dtype.kind != "f" or rows.ndim != 2 or not len(rows) or rows.shape[1] != CAR_ROW.size:
        raise ValueError(f"{path}: rows of shape {shape}; a lap has floats [T, {CAR_ROW.size}]. Delete the file")
    if not np.isfinite(rows).all() or np.abs(rows).max() > 1e9:
        raise ValueError(f"{path}: the lap's rows hold numbers that no car has. Delete the file")
    return rows


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row as one line of JSON, on a new line even after an incomplete one."""
    with open(without_link(path), "a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(row).encode() + b"\n")


def read_lines(path: Path) -> list[Row]:
    """The rows of all complete lines."""
    if not path.exists():
        return []
    rows = []
    for line in read_text(path, most_bytes=MOST_LOG_BYTES, errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        # The end of an incomplete line may be a number.
        if isinstance(row, dict) and isinstance(row.get("frames", 0), (int, float)):
            rows.append(row)
    return rows


def truncate_lines(path: Path, frames: int) -> None:
    """Delete the rows after a number of frames."""
    if not path.exists():
        return
    kept = [row for row in read_lines(path) if row.get("frames", 0) <= frames]
    with replacing(path) as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def package_version(name: str) -> str | None:
    """Version of an installed package, or ``None``."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_hash(folder: Path) -> str | None:
    """Commit of the checkout that contains the folder, with ``+`` if tracked files were changed."""
    try:
        run = {"cwd": folder, "capture_output": True, "text": True, "check": True, "timeout": 10}
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **run).stdout.strip()  # type: ignore[call-overload]
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **run).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")
