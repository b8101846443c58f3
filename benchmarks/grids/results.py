"""Results of the suite: two tables for each environment, one with a row a cell, one with a row an evaluation.

``ENVIRONMENT_cells.csv`` says how a run ended, what it cost, and where and with what it was measured;
``ENVIRONMENT_curves.csv`` what its evaluations found. A score is 0 for the worst that an environment pays and 1 for the
best; on tracks it is the mean of the author's time over the lap's, 0 for a lap that did not finish.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from tm_torchrl.data.saving.atomic_files import replacing
from tm_torchrl.experiments.run_process import RESULT, RUN
from tm_torchrl.record.run_folder import read_evaluations, read_metrics
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.tracks.medals import medals_of

CELL_COLUMNS = (
    *(
        "algorithm",
        "seed",
        "status",
        "why",
        "frames",
        "updates",
        "cpu_s",
        "seconds",
        "parameters",
        "memory_mb",
        "num_kills",
    ),
    *("action_gap", "policy_churn", "crossing_rate"),
    *("settings", "versions", "python", "machine", "git", "date", "command"),
)
CURVE_COLUMNS = (
    *("algorithm", "seed", "which", "frames", "updates", "cpu_s", "seconds", "score"),
    *("return_mean", "finish_rate", "median_lap_s", "best_lap_s", "medal"),
)
TEXTS = (
    *("algorithm", "which", "status", "why", "medal"),
    *("settings", "versions", "python", "machine", "git", "date", "command"),
)
NEEDED = ("algorithm", "seed", "score", "status")
DONE, FAILED = "done", "failed"
SEEN, HELD_OUT = "seen", "held out"
MEDALS = ("author", "gold", "silver", "bronze")

Row = dict[str, Any]


class Results:
    """The tables of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cells(self, environment: str) -> list[Row]:
        """A row for each cell; absent values are ``None``."""
        return read_table(self.folder / f"{environment}_cells.csv", CELL_COLUMNS)

    def curves(self, environment: str) -> list[Row]:
        """A row for each evaluation."""
        return read_table(self.folder / f"{environment}_curves.csv", CURVE_COLUMNS)

    def cell(self, environment: str, algorithm: str, seed: int) -> Row | None:
        """The row of one cell, if there is one."""
        rows = (row for row in self.cells(environment) if (row["algorithm"], row["seed"]) == (algorithm, seed))
        return next(rows, None)

    def measured(self, environment: str) -> set[tuple[str, int]]:
        """Algorithm and seed of cells that are done and have evaluations."""
        done = {(row["algorithm"], row["seed"]) for row in self.cells(environment) if row["status"] == DONE}
        return done & {(row["algorithm"], row["seed"]) for row in self.curves(environment)}

    def put(self, environment: str, cell: Row, curve: Sequence[Row]) -> None:
        """Add a cell and its evaluations, or replace the earlier ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):  # several suites may fill one folder
            self._exchange(environment, cell, curve)

    def _exchange(self, environment: str, cell: Row, curve: Sequence[Row]) -> None:
        of = (cell["algorithm"], cell["seed"])
        others = [row for row in self.cells(environment) if (row["algorithm"], row["seed"]) != of]
        points = [row for row in self.curves(environment) if (row["algorithm"], row["seed"]) != of]
        keyed = [{"algorithm": of[0], "seed": of[1], **row} for row in curve]
        write_table(self.folder / f"{environment}_curves.csv", CURVE_COLUMNS, _ordered([*points, *keyed]))
        write_table(self.folder / f"{environment}_cells.csv", CELL_COLUMNS, _ordered([*others, cell]))


def _ordered(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["algorithm"], row["seed"]))  # stable: evaluations stay in their order


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of a CSV file; none if there is no file."""
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return _parsed(csv.reader(file), columns)
    except (ValueError, csv.Error) as error:
        raise ConfigError(
            f"{path}: {error}; take it from the last commit, or remove it and run its cells again"
        ) from None


def _parsed(lines: Iterator[list[str]], columns: Sequence[str]) -> list[Row]:
    header, found = next(lines, []), []
    lacking = [name for name in columns if name not in header]
    if lacking:
        raise ValueError(f"its first line has no {', '.join(lacking)}")
    for number, texts in enumerate(lines, 1):
        if len(texts) != len(header):
            raise ValueError(f"row {number} has {len(texts)} values instead of {len(header)}")
        row = {key: _value(f"row {number}, {key}", key, text) for key, text in zip(header, texts, strict=True)}
        absent = [key for key in NEEDED if key in columns and row[key] is None]
        if absent:
            raise ValueError(f"row {number} has no {', '.join(absent)}")
        found.append(row)
    return found


def _value(place: str, key: str, text: str) -> Any:
    if key in TEXTS or text == "":
        return text or None
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    raise ValueError(f"{place}={text}: must be a number")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a CSV file by these rows."""
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _text(row.get(key)) for key in columns} for row in rows)


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def curve_of(run: Path, environment: Mapping[str, Any], *, every_frames: int) -> list[Row]:
    """The evaluations of a run, those of several tracks taken together."""
    rows = read_evaluations(run)
    kept = set(due([row["frames"] for row in rows], every_frames))
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if row["frames"] not in kept:
            continue
        groups.setdefault((row["frames"], HELD_OUT if row.get("is_blind") else SEEN), []).append(row)
    return [
        {"which": which, "frames": frames, **{key: rows[0].get(key) for key in ("updates", "cpu_s", "seconds")}}
        | (_task(rows[0], environment) if "task" in rows[0] else _laps(rows, environment))
        for (frames, which), rows in groups.items()
    ]


def due(frames: Sequence[int], every_frames: int) -> list[int]:
    """The first at or behind each multiple of a number, and the last one.

    >>> due([256, 300, 512, 520, 768, 800], 256)
    [256, 512, 768, 800]
    """
    first: dict[int, int] = {}
    for number in sorted(frames):
        if number >= every_frames:
            first.setdefault(number // every_frames, number)
    return sorted({*first.values(), *frames[-1:]})


def _task(row: Row, environment: Mapping[str, Any]) -> Row:
    worst, best = environment["worst"], environment["best"]
    return {"return_mean": row["return_mean"], "score": (row["return_mean"] - worst) / (best - worst)}


def _laps(rows: Sequence[Row], environment: Mapping[str, Any]) -> Row:
    shares = [lap_score(row, reference_speed=environment.get("reference_speed")) for row in rows]
    found = {
        "score": sum(shares) / len(shares),
        "finish_rate": sum(row["finish_rate"] for row in rows) / len(rows),
        "return_mean": sum(row["return_mean"] for row in rows) / len(rows),
    }
    if len(rows) == 1:
        found |= {key: rows[0][key] for key in ("median_lap_s", "best_lap_s")}
        found["medal"] = rows[0]["medal_of_median"]
    return found


def lap_score(row: Mapping[str, Any], *, reference_speed: float | None = None) -> float:
    """The mean over laps of the author's time over the lap's; 0 for laps that did not finish.

    Examples:
        >>> lap_score({"track": "oval", "lap_times_s": [20.56, None, 41.12, None], "progress_m": [0, 0, 0, 0]})
        0.375
        >>> lap_score({"track": "x", "lap_times_s": [10.0], "progress_m": [125.0]}, reference_speed=25.0)
        0.5
    """
    medals, total = medals_of(row["track"]), 0.0
    for time_s, metres in zip(row["lap_times_s"], row["progress_m"], strict=True):
        if time_s is None:
            continue
        if medals is None and reference_speed is None:
            raise ValueError(f"{row['track']}: it has no medals; give reference_speed in suite.yaml")
        total += (medals.author_s if medals else metres / (reference_speed or 1.0)) / time_s
    return total / len(row["lap_times_s"])


def costs_of(folder: Path) -> Row:
    """Costs of a finished run, and measures of its network at the end."""
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    evaluations, metrics = read_evaluations(folder / RUN), read_metrics(folder / RUN)
    if not evaluations:
        raise ValueError(f"{folder}: no evaluations in it")
    found = {key: evaluations[-1].get(key) for key in ("frames", "updates", "cpu_s", "seconds")}
    found |= {key: result.get(key) for key in ("parameters", "memory_mb", "num_kills")}
    memory = [row["memory/rss_mb"] for row in metrics if "memory/rss_mb" in row]
    if memory:
        found["memory_mb"] = max(memory)
    for key in ("action_gap", "crossing_rate", "policy_churn"):
        values = [row[f"diagnostics/{key}"] for row in metrics if row.get(f"diagnostics/{key}") is not None]
        if values:
            found[key] = sum(values) / len(values) if key == "policy_churn" else values[-1]
    return found
