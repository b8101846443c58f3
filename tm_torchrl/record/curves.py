"""Learning curves of several runs, by frames and by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tm_torchrl.record.plots import INK, medal_times
from tm_torchrl.record.run_folder import Row, read_evaluations
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.stored import read_yaml

COLOURS = ("#2563a8", "#d9772b", "#2e8b57", "#b3261e", "#7b4fa6", "#8c6d31", "#3f8f9f", "#555f6b")

NOT_SHOWN = ("resume", "trust", "name", "max_minutes")  # settings that do not change what is learned


def compare_runs(runs: Sequence[str | Path], *, track: str | None = None) -> Figure:
    """Median lap times and finish rates (or mean returns) of runs, over frames and over minutes.

    Args:
        runs: Run folders.
        track: Track to compare on; by default the first one of the first run.
    """
    if not runs:
        raise ValueError("runs: must not be empty")
    results = {str(run): rows for run in runs if (rows := read_evaluations(run))}
    if not results:
        raise ValueError(f"{runs[0]}: has no evaluations; must be the folder of a run that has been evaluated")
    first = next(iter(results.values()))[0]
    where = track or (str(first["track"]) if "track" in first else None)
    present = {str(row["track"]): None for rows in results.values() for row in rows if "track" in row}
    if track is not None and track not in present:
        listed = f"must be one of {', '.join(present)}" if present else "their task has no tracks"
        raise ValueError(f"track={track!r}: none of these runs was evaluated on it; {listed}")
    if where is not None:
        results = {run: rows for run, rows in results.items() if any(str(row.get("track")) == where for row in rows)}
    labels = labels_of(list(results))
    measures = [("median_lap_s", "median lap, s"), ("finish_rate", "laps finished")]
    if where is None:
        measures = [("return_mean", "mean greedy return")]
    figure = Figure(figsize=(11.0, 3.2 * len(measures) + 0.6), layout="constrained", facecolor="white")
    grid = figure.subplots(len(measures), 2, squeeze=False, sharex="col", sharey="row")
    for number, (run, rows) in enumerate(results.items()):
        chosen = [row for row in rows if where is None or str(row.get("track")) == where]
        colour = COLOURS[number % len(COLOURS)]
        for line, (key, _) in enumerate(measures):
            for column, x in enumerate((series(chosen, "frames"), series(chosen, "seconds") / 60.0)):
                grid[line, column].plot(
                    x, series(chosen, key), color=colour, lw=1.5, marker="o", ms=2.5, label=labels[run]
                )
    medals = medal_times(where) if where is not None else []
    for line, (key, label) in enumerate(measures):
        for column in range(2):
            _style(grid[line, column])
            if medals and key == "median_lap_s":
                _show_medals(grid[line, column], medals, has_names=column == 1)
        grid[line, 0].set_ylabel(label, color=INK)
    grid[-1, 0].set_xlabel("frames", color=INK)
    grid[-1, 1].set_xlabel("minutes of training", color=INK)
    for axes in grid[:, 0]:
        axes.xaxis.set_major_formatter(FuncFormatter(short_count))
    lines, names = grid[0, 0].get_legend_handles_labels()
    legend = figure.legend(lines, names, loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    title = where or str(first.get("task", ""))
    heading = figure.suptitle(f"Learning on {title}", fontsize=14, fontweight="bold", color=INK, x=0.02, ha="left")
    for text in (heading, *legend.get_texts()):
        text.set_parse_math(False)  # names may have dollar signs
    return figure


def labels_of(runs: Sequence[str]) -> dict[str, str]:
    """A short label for each run: the settings in which it differs from the others, or the end of its path."""
    settings = {run: _flat_settings(Path(run)) for run in runs}
    names = dict.fromkeys(name for found in settings.values() for name in found)
    differing = [name for name in names if len({str(found.get(name)) for found in settings.values()}) > 1]
    short = {name: name.replace("._target_", "").rpartition(".")[2] for name in differing}
    labels = {}
    for run in runs:
        shown = [f"{short[name]}={settings[run][name]}" for name in differing if settings[run].get(name) is not None][
            :3
        ]
        labels[run] = ", ".join(shown) or _end_of(run, runs)
    counts = Counter(labels.values())
    return {run: label if counts[label] == 1 else f"{_end_of(run, runs)}: {label}" for run, label in labels.items()}


def _flat_settings(run: Path) -> dict[str, Any]:
    """The settings of a run by their full names; targets by their last name."""
    try:
        found = read_yaml(run / "config.yaml")
    except (OSError, ConfigError):
        return {}

    def flat(node: Any, name: str) -> dict[str, Any]:
        if isinstance(node, dict):
            return {key: value for part, inner in node.items() for key, value in flat(inner, f"{name}.{part}").items()}
        return {name.lstrip("."): node.rpartition(".")[2] if name.endswith("_target_") else node}

    return {name: value for name, value in flat(found, "").items() if name not in NOT_SHOWN}


def _end_of(run: str, runs: Sequence[str]) -> str:
    """The shortest end of a run's path that distinguishes it from the others."""
    parts = Path(run).resolve().parts
    for length in range(1, len(parts) + 1):
        end = parts[-length:]
        if sum(Path(other).resolve().parts[-length:] == end for other in runs) == 1:
            return "/".join(end)
    return run


def _style(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color="#e6eaee", lw=0.7)


def _show_medals(axes: Any, medals: Sequence[tuple[str, float, str]], *, has_names: bool) -> None:
    """Mark the medal times; laps much slower than bronze leave the picture, but each run shows."""
    found = [[y for y in line.get_ydata() if y == y] for line in axes.lines]
    fastest, slowest = [min(times) for times in found if times], [max(times) for times in found if times]
    bronze_s, author_s = medals[0][1], medals[-1][1]
    top = max([1.25 * bronze_s, *(1.02 * time for time in fastest)])
    axes.set_ylim(min([author_s, *fastest]) - 1.0, min(top, max([bronze_s, *slowest]) + 1.0))
    _mark_medals(axes, medals, has_names=has_names)


def _mark_medals(axes: Any, medals: Sequence[tuple[str, float, str]], *, has_names: bool) -> None:
    """Draw the medal times as lines, and their names at the right, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    free = low
    for name, at, colour in reversed(medals):  # from the lowest line up
        axes.axhline(at, color=colour, lw=1.2, ls="--", zorder=0)
        if not has_names:
            continue
        free = max(at, free)
        axes.annotate(name, (1.01, free), xycoords=axes.get_yaxis_transform(), va="center", fontsize=9, color=INK)
        free += 0.085 * (high - low)


def series(rows: Sequence[Row], key: str) -> np.ndarray:
    """The values of a key, NaN where a row has no number.

    >>> series([{"loss": 0.5}, {"loss": "?"}, {}], "loss").tolist()
    [0.5, nan, nan]
    """
    return np.array([row[key] if _is_number(row.get(key)) else np.nan for row in rows], dtype=float)


def _is_number(value: object) -> bool:
    """Whether a value read from a file can be drawn."""
    return isinstance(value, (int, float)) and abs(value) < 1e100


def short_count(value: float, position: int | None = None) -> str:
    """A count in short form.

    >>> short_count(1_500_000), short_count(20_000), short_count(512)
    ('1.5M', '20k', '512')
    """
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
