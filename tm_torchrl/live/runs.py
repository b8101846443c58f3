"""Run folders as the page sees them, read again whenever they have grown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tm_torchrl.invocation import quoted
from tm_torchrl.live.growing_file import GrowingFile, Row
from tm_torchrl.live.track_data import medal_times, medal_won
from tm_torchrl.record.folder_claim import is_claimed
from tm_torchrl.record.ghosts import FILE as GHOSTS
from tm_torchrl.record.run_folder import MESSAGES, best_laps, load_time
from tm_torchrl.settings.stored import read_yaml
from tm_torchrl.settings.text_files import read_text
from tm_torchrl.tracks import DEFAULT_TRACK

MOST_POINTS = 400  # of a curve
MOST_MESSAGES, LONGEST_MESSAGE = 60, 600
PATTERNS = ("*", "*/*", "*/*/*")
CURVES = (
    "episode/return",
    "episode/terminated",
    "train/loss",
    "train/test_loss",
    "train/loss_reconstruction",
    "train/loss_kl",
    "train/accuracy",
    "train/test_accuracy",
    "train/gradient_norm",
    "train/kl",
    "train/clip_share",
    "train/entropy",
    "train/explained_variance",
    "schedule/learning_rate",
    "schedule/epsilon",
    "speed/env_steps_per_s",
    "speed/updates_per_s",
    "speed/learner_share",
    "diagnostics/action_gap",
    "diagnostics/policy_churn",
    "diagnostics/noise_changes_action",
    "diagnostics/noise_over_gap",
    "diagnostics/dormant_share",
    "diagnostics/effective_rank",
    "diagnostics/crossing_rate",
    "memory/rss_mb",
)
COMMANDS = (
    ("evaluate", "laps from perturbed starts: finish rate, times, medal"),
    ("watch", "a video of its record"),
    ("live", "this page while a training goes on, and to drive against its laps"),
    ("export", "the greedy policy as a program"),
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
        given = self._setting("env")
        chosen = [given.get("track"), *_list(given.get("tracks")), *_list(given.get("blind_tracks"))]
        named = {Path(str(name)).stem: str(name) for name in chosen if name is not None}
        found = {str(row["track"]): named.get(str(row["track"]), str(row["track"])) for row in self._driven()}
        drives = "track" in given or "tracks" in given
        return found or named or ({DEFAULT_TRACK: DEFAULT_TRACK} if drives else {})

    def settings(self) -> str:
        """The text of its settings."""
        path = self.folder / "config.yaml"
        try:
            return "" if path.is_symlink() else read_text(path, errors="replace")
        except OSError:
            return ""

    def _setting(self, *names: str) -> dict[str, Any]:
        """A group of settings; the file is read once, since YAML takes long, unless it is replaced."""
        path = self.folder / "config.yaml"
        written = path.lstat().st_mtime_ns if path.exists() else 0
        if written != self._config[0]:
            self._config = (written, _mapping(path, read_yaml))
        found: Any = self._config[1]
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _has_values(self) -> bool:
        """Whether there may be a quantile network, which has values of every action."""
        network = str(self._setting("objective", "network").get("_target_"))
        return (self.folder / "checkpoints").is_dir() and not network.endswith(".PolicyValueNetwork")

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
        facts = _mapping(self.folder / "run.json", lambda path: json.loads(read_text(path)))
        groups: dict[str, list[Row]] = {}
        for row in self.evaluations.rows:
            farthest = max((metres for metres in _list(row.get("progress_m")) if _number(metres)), default=None)
            groups.setdefault(str(row.get("track", row.get("task"))), []).append({**row, "farthest_m": farthest})
        laps = {track: load_time(path) for track, path in self.best().items()}
        return {
            **self.summary(),
            "is_going_on": self.is_going_on,
            "has_values": self._has_values() and bool(self.ghosts.rows or laps),
            "facts": {key: facts[key] for key in ("started", "platform", "device", "precision") if key in facts},
            "about": about(facts),
            "settings": self.settings(),
            "commands": [[f"tm-torchrl {name} {quoted(shown_path(self.folder))}", does] for name, does in COMMANDS],
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
            if (place / "config.yaml").exists():
                self.add(place, name=name_of(place))
                continue
            for config in (found for pattern in PATTERNS for found in place.glob(f"{pattern}/config.yaml")):
                self.add(config.parent, name=config.parent.relative_to(place).as_posix())

    def add(self, folder: Path, *, name: str) -> str:
        """The number of a run, which is new or known already.

        Args:
            folder: The run folder.
            name: How the page names it.
        """
        whole = folder.resolve()
        if whole not in self._numbers:
            self._numbers[whole] = str(len(self._numbers) + 1)
            self._runs[self._numbers[whole]] = Run(folder, name=name)
        return self._numbers[whole]

    def __getitem__(self, number: str) -> Run:
        return self._runs[number]

    def summaries(self) -> list[dict[str, Any]]:
        """All runs, those that changed last first."""
        self.look()
        found = []
        for number, run in self._runs.items():
            with contextlib.suppress(OSError):  # a run whose files cannot be read leaves the others
                if run.folder.is_dir():
                    found.append({"id": number, **run.summary()})
        return sorted(found, key=lambda row: -row["changed_at"])


def name_of(folder: Path) -> str:
    """The name of a run folder that was named itself: the last parts of its path, up to the folder ``runs``.

    >>> name_of(Path("/home/me/runs/oval/2026-01-31")), name_of(Path("/my/best"))
    ('oval/2026-01-31', 'my/best')
    """
    whole = folder.resolve()
    return f"{whole.parent.name}/{whole.name}" if whole.parent.name not in ("", "runs") else whole.name


def shown_path(folder: Path) -> str:
    """A run folder in commands: below the working folder, where it is there, since a report may be sent to others."""
    try:
        return folder.resolve().relative_to(Path.cwd()).as_posix()
    except (OSError, ValueError):  # the working folder was deleted, or is another
        return name_of(folder)


def about(facts: dict[str, Any]) -> list[str]:
    """Lines about a run from its ``run.json``."""
    packages, line = facts.get("packages"), facts.get("command")
    named = packages.items() if isinstance(packages, dict) else ()
    lines = [
        f"commit {facts.get('git') or 'unknown'}, Python {facts.get('python', '?')}, {facts.get('platform', '?')}",
        ", ".join(f"{name} {number}" for name, number in named if number),
        f"seed {facts.get('seed', '?')}, {facts.get('precision', '?')}, {facts.get('device', '?')}",
        " ".join(map(str, line)) if isinstance(line, list) else "",
    ]
    return [text[:LONGEST_MESSAGE] for text in lines if text]


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
        found = {} if path.is_symlink() else parse(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
