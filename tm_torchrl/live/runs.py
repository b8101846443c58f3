"""Run folders as the page sees them, read again whenever they have grown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tm_torchrl.live.growing_file import GrowingFile, Row
from tm_torchrl.live.track_data import medal_times, medal_won
from tm_torchrl.record.folder_claim import is_claimed
from tm_torchrl.record.ghosts import FILE as GHOSTS
from tm_torchrl.record.run_folder import MESSAGES, best_laps, load_time
from tm_torchrl.tracks import DEFAULT_TRACK

MOST_POINTS = 400  # of a curve
MOST_MESSAGES, LONGEST_MESSAGE = 60, 600
PATTERNS = ("*", "*/*", "*/*/*")
CURVES = (
    "episode/return",
    "episode/terminated",
    "train/loss",
    "train/gradient_norm",
    "schedule/learning_rate",
    "schedule/epsilon",
    "speed/env_steps_per_s",
    "speed/updates_per_s",
    "speed/learner_share",
    "memory/rss_mb",
)
RESULTS = ("best_lap_s", "median_lap_s", "finish_rate", "return_mean", "r2_mean", "farthest_m")


class Run:
    """One run folder.

    Args:
        folder: The folder.
        name: How the page names it.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self.folder, self.name = folder, name
        self.metrics = GrowingFile(folder / "metrics.jsonl")
        self.evaluations = GrowingFile(folder / "evaluations.jsonl")
        self.ghosts = GrowingFile(folder / GHOSTS)
        self.messages = GrowingFile(folder / MESSAGES)
        self._config: tuple[int, dict[str, Any]] = (0, {})

    def refresh(self) -> None:
        """Read what is new."""
        for file in (self.metrics, self.evaluations, self.ghosts, self.messages):
            file.refresh()

    @property
    def is_going_on(self) -> bool:
        """Whether a training writes into the folder."""
        return is_claimed(self.folder)

    def best(self) -> dict[str, Path]:
        """Files of the fastest kept lap of each track; links are left out."""
        return {track: path for track, path in best_laps(self.folder).items() if not path.is_symlink()}

    def track_names(self) -> dict[str, str]:
        """Every track of the run: its name in the results, and what ``load_track`` takes."""
        given = self._env()
        chosen = [given.get("track"), *_list(given.get("tracks")), *_list(given.get("blind_tracks"))]
        named = {Path(str(name)).stem: str(name) for name in chosen if name is not None}
        found = {str(row["track"]): named.get(str(row["track"]), str(row["track"])) for row in self._driven()}
        drives = "track" in given or "tracks" in given
        return found or named or ({DEFAULT_TRACK: DEFAULT_TRACK} if drives else {})

    def _env(self) -> dict[str, Any]:
        """The settings of the environment; read once, since YAML takes long, unless the file is replaced."""
        path = self.folder / "config.yaml"
        written = path.lstat().st_mtime_ns if path.exists() else 0
        if written != self._config[0]:
            env = _mapping(path, yaml.safe_load).get("env")
            self._config = (written, env if isinstance(env, dict) else {})
        return self._config[1]

    def _driven(self) -> list[Row]:
        return [row for row in self.evaluations.rows if "track" in row]

    def summary(self) -> dict[str, Any]:
        """What the list of runs shows."""
        self.metrics.refresh()
        self.evaluations.refresh()
        last = max(self.metrics.rows[-1:] + self.evaluations.rows[-1:], key=_frames, default={})
        evaluated = self.evaluations.rows[-1] if self.evaluations.rows else {}
        laps = {track: load_time(path) for track, path in self.best().items()}
        track = next(iter(laps), None)
        return {
            "name": self.name,
            "frames": _frames(last),
            "seconds": _number(last.get("seconds")) or 0.0,
            "changed_at": max(self.metrics.changed_at, self.evaluations.changed_at),
            "track": track,
            "best_lap_s": None if track is None else laps[track],
            "medal": None if track is None else medal_won(track, laps[track]),
            "return_mean": None if "track" in evaluated else _number(evaluated.get("return_mean")),
        }

    def page(self) -> dict[str, Any]:
        """Everything that the page shows of the run, but its tracks and laps."""
        self.refresh()
        facts = _mapping(self.folder / "run.json", json.loads)
        groups: dict[str, list[Row]] = {}
        for row in self.evaluations.rows:
            farthest = max((metres for metres in _list(row.get("progress_m")) if _number(metres)), default=None)
            groups.setdefault(str(row.get("track", row.get("task"))), []).append({**row, "farthest_m": farthest})
        laps = {track: load_time(path) for track, path in self.best().items()}
        return {
            **self.summary(),
            "is_going_on": self.is_going_on,
            "has_values": (self.folder / "checkpoints").is_dir() and bool(self.ghosts.rows or laps),
            "facts": {key: facts[key] for key in ("started", "platform", "device", "precision") if key in facts},
            "tracks": [
                {"name": name, "medals": medal_times(name), "best_lap_s": laps.get(name)} for name in self.track_names()
            ],
            "metrics": curves(self.metrics.rows, CURVES),
            "evaluations": {name: curves(rows, RESULTS) for name, rows in groups.items()},
            "messages": [
                [_number(row.get("seconds")) or 0.0, str(row.get("message"))[:LONGEST_MESSAGE]]
                for row in self.messages.rows[-MOST_MESSAGES:]
            ],
            "ghosts": {name: self.ghost_list(name) for name in {str(row.get("track")) for row in self.ghosts.rows}},
        }

    def ghost_list(self, track: str) -> list[dict[str, Any]]:
        """Frames and times of the evaluations of a track whose laps can be driven again."""
        rows = [row for row in self.ghosts.rows if row.get("track") == track]
        return [{"frames": _frames(row), "time_s": _number(row.get("time_s"))} for row in rows]

    def state(self) -> str:
        """Changes whenever the page does."""
        self.refresh()
        sizes = [len(file.rows) for file in (self.metrics, self.evaluations, self.ghosts, self.messages)]
        return f"{sizes}{self.metrics.changed_at}{self.is_going_on}"


class Runs:
    """The runs below some folders, which may become more; each has a number by which the page asks for it.

    Args:
        places: Run folders, or folders with runs.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self.places = list(places)
        self._numbers: dict[Path, str] = {}
        self._runs: dict[str, Run] = {}
        self.look()

    def look(self) -> None:
        """Find new runs."""
        for place in self.places:
            configs = [place / "config.yaml"] if (place / "config.yaml").is_file() else []
            for config in configs or (found for pattern in PATTERNS for found in place.glob(f"{pattern}/config.yaml")):
                folder = config.parent
                if folder.resolve() not in self._numbers:
                    number = str(len(self._numbers) + 1)
                    self._numbers[folder.resolve()] = number
                    shown = folder.resolve() if folder == place else folder.relative_to(place)
                    self._runs[number] = Run(folder, name="/".join(shown.parts[-3 if folder == place else 0 :]))

    def __getitem__(self, number: str) -> Run:
        return self._runs[number]

    def summaries(self) -> list[dict[str, Any]]:
        """All runs, those that changed last first."""
        self.look()
        found = [{"id": number, **run.summary()} for number, run in self._runs.items() if run.folder.is_dir()]
        return sorted(found, key=lambda row: -row["changed_at"])


def curves(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, list[float | None]]:
    """Columns of at most ``MOST_POINTS`` rows, the last one among them; without keys that no row has.

    >>> curves([{"frames": 1, "train/loss": 0.5}, {"frames": 2}], ["train/loss", "train/kl"])
    {'frames': [1.0, 2.0], 'seconds': [None, None], 'train/loss': [0.5, None]}
    """
    timed = [row for row in rows if _number(row.get("frames")) is not None]
    step = -(-len(timed) // MOST_POINTS) or 1
    chosen = timed[::-1][::step][::-1]
    columns = {key: [_number(row.get(key)) for row in chosen] for key in ("frames", "seconds", *keys)}
    return {key: values for key, values in columns.items() if key in ("frames", "seconds") or any(_some(values))}


def _some(values: Sequence[float | None]) -> list[bool]:
    return [value is not None for value in values]


def _number(value: object) -> float | None:
    """A number of a file, if it is one that can be drawn."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e100
    return float(value) if is_number else None  # type: ignore[arg-type]


def _frames(row: Row) -> int:
    return int(_number(row.get("frames")) or 0)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(path: Path, parse: Any) -> dict[str, Any]:
    """A file of a run folder, or nothing if it is missing, damaged or a link."""
    try:
        found = {} if path.is_symlink() else parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
