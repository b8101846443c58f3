"""Figures of a run: curves over frames, lap times, and speed, keys and values along the best lap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tm_torchrl.record.plots import FAINT, INK, medal_times
from tm_torchrl.record.run_folder import Row
from tm_torchrl.world.car_row import CAR_ROW

BLUE, ORANGE, GREEN = "#2563a8", "#d9772b", "#2e8b57"
STEP_S = 0.05


def lap_curves(rows: Sequence[Row], *, track: str) -> Figure:
    """Best and median lap time of every evaluation with the medal times, and the share of laps that finished."""
    figure, (times, rates) = _panels(2, heights=(3.0, 1.0), size=(8.4, 4.6))
    frames = [row["frames"] for row in rows]
    for key, colour, label in (("median_lap_s", BLUE, "median lap"), ("best_lap_s", ORANGE, "best lap")):
        values = [np.nan if row[key] is None else row[key] for row in rows]
        times.plot(frames, values, color=colour, marker="o", ms=3, lw=1.4, label=label)
    found = [row["best_lap_s"] for row in rows if row["best_lap_s"] is not None]
    _medal_lines(times, track, found)
    times.set_ylabel("race time, s")
    if found:
        times.legend(frameon=False, fontsize=8, loc="upper right")
    else:
        times.text(0.5, 0.5, "no lap has finished yet", transform=times.transAxes, ha="center", color=FAINT)
    rates.fill_between(frames, [100 * row["finish_rate"] for row in rows], color=GREEN, alpha=0.25, lw=0)
    rates.plot(frames, [100 * row["finish_rate"] for row in rows], color=GREEN, lw=1.4)
    rates.axhline(95, color=FAINT, lw=0.8, ls=":")
    rates.set_ylim(0, 104)
    rates.set_ylabel("finished, %")
    _frames_axis(rates)
    return figure


def return_curve(rows: Sequence[Row]) -> Figure:
    """Mean, lowest and highest return of every evaluation."""
    figure, (axes,) = _panels(1, size=(8.4, 3.4))
    frames = [row["frames"] for row in rows]
    low, high = ([row[key] for row in rows] for key in ("return_min", "return_max"))
    axes.fill_between(frames, low, high, color=BLUE, alpha=0.18, lw=0, label="lowest to highest")
    axes.plot(frames, [row["return_mean"] for row in rows], color=BLUE, marker="o", ms=3, lw=1.4, label="mean return")
    axes.set_ylabel("greedy return")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _frames_axis(axes)
    return figure


def metric_curves(rows: Sequence[Row], names: Sequence[tuple[str, str]]) -> Figure:
    """Small curves of the metrics among ``names`` (key, label) that occur in the rows."""
    present = [(key, label) for key, label in names if any(key in row for row in rows)]
    columns = 3
    lines = max(1, -(-len(present) // columns))
    figure = Figure(figsize=(8.4, 1.9 * lines), layout="constrained", facecolor="white")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(present) :]:
        axes.set_axis_off()
    for axes, (key, label) in zip(grid.flat, present, strict=False):
        found = [(row["frames"], row[key]) for row in rows if key in row and np.isfinite(row[key])]
        frames, values = zip(*found, strict=True) if found else ((), ())
        axes.plot(frames, values, color=BLUE, lw=1.1)
        axes.set_title(label, fontsize=9, color=INK, loc="left")
        if key in ("train/loss", "train/gradient_norm") and values and min(values) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        _style(axes)
        _frames_axis(axes, label=False)
    return figure


def lap_histogram(times: Sequence[float], *, track: str) -> Figure:
    """Histogram of race times, with the medal times near them."""
    figure, (axes,) = _panels(1, size=(4.1, 3.0))
    axes.hist(times, bins=min(30, max(8, len(times) // 3)), color=BLUE, alpha=0.85)
    axes.set_xlabel("race time, s")
    axes.set_ylabel("laps")
    for name, at, colour in medal_times(track) if len(times) else ():
        if min(times) - 3 <= at <= max(times) + 3:
            axes.axvline(at, color=colour, lw=1.6)
            axes.text(at, 1.0, name, color=colour, fontsize=8, rotation=90, va="top", ha="right",
                      transform=axes.get_xaxis_transform())  # fmt: skip
    return figure


def lap_traces(lap: dict[str, np.ndarray]) -> Figure:
    """Speed, keys, and mean and quantiles of the values along a lap."""
    rows, actions = lap["rows"], lap["actions"]
    has_quantiles = "quantiles" in lap
    heights = (2.0, 1.0, 2.0) if has_quantiles else (2.0, 1.0)
    figure, panels = _panels(len(heights), heights=heights, size=(8.4, 5.3 if has_quantiles else 3.4))
    seconds = rows[:, CAR_ROW.start("race_time_ms")] / 1000.0
    panels[0].plot(seconds, 3.6 * np.linalg.norm(rows[:, CAR_ROW["velocity"]], axis=1), color=BLUE, lw=1.3)
    panels[0].set_ylabel("speed, km/h")
    panels[0].set_ylim(bottom=0)
    steer = rows[:, CAR_ROW.start("input_steer")]
    keys = (
        ("gas", rows[:, CAR_ROW.start("input_gas")] > 0, GREEN),
        ("brake", rows[:, CAR_ROW.start("input_brake")] > 0, "#b3261e"),
        ("left", steer < 0, ORANGE),
        ("right", steer > 0, ORANGE),
    )
    for line, (_, is_down, colour) in enumerate(reversed(keys)):
        panels[1].fill_between(seconds, line + 0.1, line + 0.9, where=is_down, color=colour, lw=0, step="pre")
    panels[1].set_yticks([0.5, 1.5, 2.5, 3.5], [name for name, _, _ in reversed(keys)], fontsize=8)
    panels[1].set_ylim(0, 4)
    if has_quantiles:
        quantiles = lap["quantiles"][: len(seconds) - 1]
        at = seconds[: len(quantiles)]
        for i in range(quantiles.shape[1] // 2):
            panels[2].fill_between(at, quantiles[:, i], quantiles[:, -1 - i], color=BLUE, alpha=0.16, lw=0)
        panels[2].plot(at, quantiles.mean(1), color=BLUE, lw=1.1)
        panels[2].set_ylabel("value of the action\n(mean and quantiles)")
    panels[-1].set_xlabel("race time, s")
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    for axes in panels:
        axes.set_xlim(0, max(float(seconds[-1]), len(actions) * STEP_S))
    return figure


def _panels(
    number: int, *, size: tuple[float, float], heights: Sequence[float] | None = None
) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(number, 1, sharex=True, squeeze=False, height_ratios=heights)
    panels = list(grid.flat)
    for axes in panels:
        _style(axes)
    return figure, panels


def _style(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#c4ccd4")
    axes.tick_params(colors=INK, labelsize=8, length=3)
    axes.grid(axis="y", color="#e6eaee", lw=0.7)
    axes.set_axisbelow(True)


def _frames_axis(axes: Any, *, label: bool = True) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(short_count))
    if label:
        axes.set_xlabel("frames")


def short_count(value: float, position: int | None = None) -> str:
    """A count in short form.

    >>> short_count(1_500_000), short_count(20_000), short_count(512)
    ('1.5M', '20k', '512')
    """
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _medal_lines(axes: Any, track: str, times: Sequence[float]) -> None:
    medals = medal_times(track)
    if times and medals:
        bronze_s, author_s = medals[0][1], medals[-1][1]
        axes.set_ylim(min(*times, author_s) - 0.8, min(max(times), 2.0 * bronze_s) + 1.0)
    for name, at, colour in medals:
        axes.axhline(at, color=colour, lw=1.1, ls="--", zorder=0)
        axes.annotate(
            f"{name} {at:.2f}", (0.0, at), xycoords=("axes fraction", "data"), xytext=(4, 2),
            textcoords="offset points", color=colour, fontsize=7.5, annotation_clip=True,
        )  # fmt: skip
