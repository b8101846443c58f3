"""Learning curves of several runs, by frames and by time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tm_torchrl.record.figures import short_count
from tm_torchrl.record.plots import INK, medal_times
from tm_torchrl.record.run_folder import read_evaluations

COLOURS = ("#2563a8", "#d9772b", "#2e8b57", "#b3261e", "#7b4fa6", "#8c6d31", "#3f8f9f", "#555f6b")


def compare_runs(runs: Sequence[str | Path], *, track: str | None = None) -> Figure:
    """Median lap times and finish rates (or mean returns) of runs, over frames and over minutes.

    Args:
        runs: Run folders.
        track: Track to compare on; by default the first one of the first run.
    """
    if not runs:
        raise ValueError("runs: must not be empty")
    results = {str(run): read_evaluations(run) for run in runs}
    empty = [run for run, rows in results.items() if not rows]
    if empty:
        raise ValueError(f"{empty[0]}: has no evaluations; must be the folder of a run that has been evaluated")
    first = next(iter(results.values()))[0]
    where = track or first.get("track")
    present = {str(row["track"]): None for rows in results.values() for row in rows if "track" in row}
    if track is not None and track not in present:
        listed = f"must be one of {', '.join(present)}" if present else "their task has no tracks"
        raise ValueError(f"track={track!r}: none of these runs was evaluated on it; {listed}")
    measures = [("median_lap_s", "median lap, s"), ("finish_rate", "laps finished")]
    if where is None:
        measures = [("return_mean", "mean greedy return")]
    figure = Figure(figsize=(11.0, 3.2 * len(measures) + 0.6), layout="constrained", facecolor="white")
    grid = figure.subplots(len(measures), 2, squeeze=False, sharey="row")
    for number, (run, rows) in enumerate(results.items()):
        chosen = [row for row in rows if where is None or row.get("track") == where]
        colour = COLOURS[number % len(COLOURS)]
        for line, (key, _) in enumerate(measures):
            values = [np.nan if row.get(key) is None else row[key] for row in chosen]
            for column, scale in enumerate(("frames", "seconds")):
                x = [row[scale] / (60.0 if scale == "seconds" else 1.0) for row in chosen]
                grid[line, column].plot(x, values, color=colour, lw=1.5, marker="o", ms=2.5, label=label_of(run, runs))
    medals = medal_times(where) if where is not None else []
    for line, (key, label) in enumerate(measures):
        for column in range(2):
            _style(grid[line, column], medals if key == "median_lap_s" else [])
        grid[line, 0].set_ylabel(label, color=INK)
    grid[-1, 0].set_xlabel("frames", color=INK)
    grid[-1, 1].set_xlabel("minutes of training", color=INK)
    for axes in grid[:, 0]:
        axes.xaxis.set_major_formatter(FuncFormatter(short_count))
    grid[0, 1].legend(frameon=False, fontsize=8, loc="upper right")
    figure.suptitle(where or str(first.get("task", "")), fontsize=14, fontweight="bold", color=INK, x=0.02, ha="left")
    return figure


def label_of(run: str, runs: Sequence[str | Path]) -> str:
    """The shortest end of a run's path that distinguishes it from the others."""
    parts = Path(run).resolve().parts
    for length in range(1, len(parts) + 1):
        end = parts[-length:]
        if sum(Path(other).resolve().parts[-length:] == end for other in runs) == 1:
            return "/".join(end)
    return run


def _style(axes: Any, medals: Sequence[tuple[str, float, str]]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color="#e6eaee", lw=0.7)
    for _, time, colour in medals:
        axes.axhline(time, color=colour, ls="--", lw=1.0, zorder=0)
    if medals:
        top = 1.25 * medals[0][1]  # bronze; the first laps take minutes and would hide the others
        if axes.get_ylim()[1] > top:
            axes.set_ylim(top=top)
