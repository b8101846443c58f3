"""Pictures of the suite: learning curves by frames and by CPU seconds, performance profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.suite_statistics import estimate, profile, runs_of

CURVE_RESAMPLES = 300


def colours(names: Sequence[str]) -> dict[str, Any]:
    """One for each algorithm, the same in all pictures.

    Args:
        names: of all algorithms there are.
    """
    palette = colormaps["tab20"]
    return {name: palette((2 * i) % 20 + (2 * i) // 20) for i, name in enumerate(names)}


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


def curves_figure(
    curves: Sequence[Mapping[str, Any]], *, titles: Mapping[str, str], which: str, title: str, threshold: float
) -> Figure:
    """Scores over frames, and over CPU seconds.

    Args:
        curves: evaluations of one environment.
        titles: of its algorithms, all that are drawn.
        which: seen or held-out tracks.
        title: of the environment.
        threshold: drawn as a line.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    palette = colours(list(titles))
    for name, label in titles.items():
        runs = runs_of(curves, name, which=which)
        if not runs:
            continue
        points = curve(runs)
        for axes, key in zip(panels, ("frames", "cpu_s"), strict=True):
            axes.plot(points[key], points["value"], color=palette[name], lw=1.6, label=f"{label} ({len(runs)})")
            axes.fill_between(points[key], points["low"], points["high"], color=palette[name], alpha=0.15, lw=0)
    for axes, label in zip(panels, ("frames", "CPU seconds of training"), strict=True):
        axes.axhline(threshold, color="#8a949e", lw=0.8, ls=":")
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("score (interquartile mean)")
    panels[0].set_title(title, loc="left", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=7, frameon=False)
    return figure


def profiles_figure(scores: Mapping[str, Sequence[float]], *, titles: Mapping[str, str]) -> Figure:
    """Share of all runs above a score.

    Args:
        scores: final ones of all runs, by algorithm.
        titles: of the algorithms.
    """
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    thresholds = np.linspace(0.0, 1.0, 101)
    palette = colours(list(titles))
    for name, values in scores.items():
        axes.plot(thresholds, profile(values, thresholds), color=palette[name], label=f"{titles[name]} ({len(values)})")
    axes.set_xlabel("score")
    axes.set_ylabel("share of runs above it")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    return figure
