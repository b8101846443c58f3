"""Pictures of the suite: learning curves by frames and by CPU seconds, performance profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.grids.scores import estimate, profile, runs_of

CURVE_RESAMPLES = 300
MOST_SIDE_BY_SIDE = 4
MARGIN = 0.04  # above and below the scores
BY = {"frames": "thousand frames", "cpu_s": "CPU seconds of training"}
BESIDE = "#5b6670"
COLOURS = ("#d1495b", "#2d7dd2", "#3a9d5d", "#e0a100", "#7b4fa3", "#12a3a8", "#a0522d")


def curve(rows_by_seed: Mapping[int, Sequence[Mapping[str, Any]]]) -> dict[str, list[float]]:
    """Frames, median CPU seconds, and the scores' interquartile mean with its interval, where all runs have one."""
    by_frames: dict[int, list[Mapping[str, Any]]] = {}
    for rows in rows_by_seed.values():
        for row in rows:
            by_frames.setdefault(row["frames"], []).append(row)
    found: dict[str, list[float]] = {key: [] for key in ("frames", "cpu_s", "value", "low", "high")}
    for frames, rows in sorted(by_frames.items()):
        if len(rows) < len(rows_by_seed):
            continue
        middle = estimate([row["score"] for row in rows], num_resamples=CURVE_RESAMPLES)
        point = (frames, float(np.median([row["cpu_s"] for row in rows])), middle.value, middle.low, middle.high)
        for key, number in zip(found, point, strict=True):
            found[key].append(number)
    return found


@dataclass(frozen=True)
class Panel:
    """Some algorithms that are drawn together, and one beside them to compare with."""

    title: str
    algorithms: Sequence[str]
    beside: str


def curves_figure(
    curves: Sequence[Mapping[str, Any]],
    panels: Sequence[Panel],
    *,
    titles: Mapping[str, str],
    title: str,
    threshold: float,
) -> Figure:
    """Scores over frames, and over CPU seconds."""
    points = {name: (len(runs), curve(runs)) for name in titles if (runs := runs_of(curves, name))}
    scores = [score for _, line in points.values() for key in ("value", "low", "high") for score in line[key]]
    limits = (np.nanmin([0.0, *scores]) - MARGIN, np.nanmax([threshold, *scores]) + MARGIN)  # one run has no interval
    lines = in_lines(panels, MOST_SIDE_BY_SIDE)
    figure = Figure(figsize=(3.2 * max(2, len(lines[0])), 6.4 * len(lines)), layout="constrained")
    for part, line in zip(figure.subfigures(len(lines), 1, squeeze=False)[:, 0], lines, strict=True):
        grid = part.subplots(2, len(lines[0]), sharey=True, squeeze=False)
        for column, panel in zip_longest(grid.T, line):
            if panel is None:
                part.delaxes(column[0])
                part.delaxes(column[1])
                continue
            _draw_panel(column, panel, points, titles=titles, threshold=threshold, limits=limits)
        for axes in grid[:, 0]:
            axes.set_ylabel("score")
    figure.suptitle(f"{title}: interquartile mean of runs, 95 % interval", x=0.01, ha="left", fontsize=10)
    return figure


def in_lines(panels: Sequence[Panel], most: int) -> list[list[Panel]]:
    """Panels in as few lines of at most so many as will do, the lines about equally long.

    >>> [[panel.title for panel in line] for line in in_lines([Panel(title, [], "") for title in "abcde"], 4)]
    [['a', 'b', 'c'], ['d', 'e']]
    """
    length = math.ceil(len(panels) / math.ceil(len(panels) / most))
    return [list(panels[i : i + length]) for i in range(0, len(panels), length)]


def _draw_panel(
    column: Sequence[Axes],
    panel: Panel,
    points: Mapping[str, tuple[int, Mapping[str, Sequence[float]]]],
    *,
    titles: Mapping[str, str],
    threshold: float,
    limits: tuple[float, float],
) -> None:
    """Over frames in the upper axes, over CPU seconds in the lower ones."""
    for axes, (key, label) in zip(column, BY.items(), strict=True):
        for name, colour, dashes in _styles(panel):
            if name in points:
                num, line = points[name]
                axes.plot(line[key], line["value"], dashes, color=colour, lw=1.6, label=f"{titles[name]} ({num})")
                axes.fill_between(line[key], line["low"], line["high"], color=colour, alpha=0.15, lw=0)
        axes.axhline(threshold, color="#8a949e", lw=0.8, ls=":")
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.set_ylim(limits)
        if key == "frames":
            axes.xaxis.set_major_formatter(lambda frames, _: f"{frames / 1_000:g}")
        axes.spines[["top", "right"]].set_visible(False)
    column[0].set_title(panel.title, loc="left", fontsize=10)
    legend_below(column[-1])


def profiles_figure(
    scores: Mapping[str, Sequence[float]], panels: Sequence[Panel], *, titles: Mapping[str, str]
) -> Figure:
    """Share of all runs above a score."""
    figure = Figure(figsize=(3.0 * max(2, len(panels)), 3.8), layout="constrained")
    thresholds = np.linspace(0.0, 1.0, 101)
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(columns, panels, strict=True):
        for name, colour, dashes in _styles(panel):
            if name in scores:
                label = f"{titles[name]} ({len(scores[name])})"
                axes.plot(thresholds, profile(scores[name], thresholds), dashes, color=colour, lw=1.6, label=label)
        axes.set_title(panel.title, loc="left", fontsize=10)
        axes.set_xlabel("score")
        legend_below(axes)
        axes.spines[["top", "right"]].set_visible(False)
    columns[0].set_ylabel("share of runs above it")
    return figure


def legend_below(axes: Axes) -> None:
    """Put the legend below the axes, where it hides no curve."""
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(-0.02, -0.26), borderaxespad=0.0)


def _styles(panel: Panel) -> list[tuple[str, str, str]]:
    """Name, colour and line of what a panel shows."""
    drawn = [name for name in panel.algorithms if name != panel.beside]
    return [(panel.beside, BESIDE, "--"), *((name, COLOURS[i], "-") for i, name in enumerate(drawn))]
