"""Figures of a run, as wide as a phone: curves over frames, lap times, and the map and traces of the best lap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tm_torchrl.record.plots import BLUE, EDGE, FAINT, GREEN, INK, ORANGE, RED, across, medal_times
from tm_torchrl.record.run_folder import Row
from tm_torchrl.tracks import Track
from tm_torchrl.world.car_row import CAR_ROW

WIDTH = 4.5  # inches: 324 units of an SVG, about the width of a phone
STEP_S = 0.05
HIT_M_S = 3.0  # lost within one step; the brakes take up to 2.3 m/s
NEAR_M = 15.0  # of a wall hit, where its cross would cover a gate's number
MAX_MARKERS = 60
NUM_ROWS_AVERAGED = 200  # curves of metrics with so many rows have a mean over 2 % of them
NUM_LATER = 4  # evaluations with laps near the medal times, from which on slower laps may leave the picture


def is_number(value: object) -> bool:
    """Whether a value read from a file can be drawn.

    >>> is_number(3), is_number(float("nan")), is_number(float("inf")), is_number("3"), is_number(None)
    (True, False, False, False, False)
    """
    return isinstance(value, (int, float)) and abs(value) < 1e100


def series(rows: Sequence[Row], key: str) -> np.ndarray:
    """The values of a key, NaN where a row has no number.

    >>> series([{"loss": 0.5}, {"loss": "?"}, {}], "loss").tolist()
    [0.5, nan, nan]
    """
    return np.array([row[key] if is_number(row.get(key)) else np.nan for row in rows], dtype=float)


def numbers(row: Mapping[str, Any], key: str) -> list[float]:
    """The numbers of a list in a row.

    >>> numbers({"lap_times_s": [21.5, None]}, "lap_times_s"), numbers({}, "lap_times_s")
    ([21.5], [])
    """
    values = row.get(key)
    return [value for value in values if is_number(value)] if isinstance(values, list) else []


def lap_curves(rows: Sequence[Row], *, track: str) -> Figure | None:
    """Best and median lap of every evaluation with the medal times; ``None`` if fewer than two have laps."""
    best, median = series(rows, "best_lap_s"), series(rows, "median_lap_s")
    if np.isfinite(best).sum() < 2:
        return None
    figure, (times, rates) = _panels(2, heights=(3.0, 1.0), height=3.6)
    frames = series(rows, "frames")
    _curve(times, frames, median, BLUE, "median lap")
    _curve(times, frames, best, ORANGE, "best lap")
    medals = medal_times(track)
    if medals:
        bronze_s, author_s = medals[0][1], medals[-1][1]
        slow_s = 1.25 * bronze_s  # the first laps may take minutes, and would hide the later ones
        slowest_s = np.nanmax([*best, *median])
        high = slowest_s if np.sum(best < slow_s) < NUM_LATER else min(slowest_s, slow_s)
        times.set_ylim(min(np.nanmin(best), author_s) - 0.8, max(high, bronze_s) + 1.0)
    mark_medals(times, medals)
    times.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    times.set_ylabel("race time, s")
    rate = 100 * series(rows, "finish_rate")
    rates.fill_between(frames, rate, color=GREEN, alpha=0.25, lw=0)
    rates.plot(frames, rate, color=GREEN, lw=1.4)
    rates.set_ylim(0, 104)
    rates.set_ylabel("finished, %")
    _frames_axis(rates)
    _legend(figure)
    return figure


def progress_curves(rows: Sequence[Row], *, length_m: float | None) -> Figure | None:
    """How far the laps of every evaluation came; ``None`` if fewer than two evaluations say so."""
    reached = [numbers(row, "progress_m") for row in rows]
    if sum(map(bool, reached)) < 2:
        return None
    figure, (axes,) = _panels(1, height=2.6)
    frames = series(rows, "frames")
    for function, colour, label in ((np.max, ORANGE, "farthest lap"), (np.median, BLUE, "median")):
        _curve(axes, frames, np.array([function(values) if values else np.nan for values in reached]), colour, label)
    if length_m is not None:
        axes.axhline(length_m, color=GREEN, lw=1.2, ls="--")
        axes.annotate(
            "finish", (0.02, length_m), xycoords=axes.get_yaxis_transform(), va="bottom", fontsize=9, color=INK
        )
        axes.set_ylim(top=1.15 * length_m)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("driven, m")
    _frames_axis(axes)
    _legend(figure)
    return figure


def return_curve(rows: Sequence[Row]) -> Figure | None:
    """Mean, lowest and highest return of every evaluation; ``None`` if fewer than two have one."""
    mean = series(rows, "return_mean")
    if np.isfinite(mean).sum() < 2:
        return None
    figure, (axes,) = _panels(1, height=2.6)
    frames = series(rows, "frames")
    low, high = series(rows, "return_min"), series(rows, "return_max")
    axes.fill_between(frames, low, high, color=BLUE, alpha=0.18, lw=0, label="lowest to highest")
    _curve(axes, frames, mean, BLUE, "mean")
    axes.set_ylabel("greedy return")
    _legend(figure)
    _frames_axis(axes)
    return figure


def probe_curve(rows: Sequence[Row]) -> Figure | None:
    """What a linear probe explains of each target in every evaluation; ``None`` for fewer than two."""
    if len(rows) < 2:
        return None
    figure, (axes,) = _panels(1, height=2.6)
    names = [name for name in rows[-1] if name.startswith("r2_") and name != "r2_mean"]
    for name, colour in zip(names, (BLUE, ORANGE, GREEN, RED), strict=False):
        _curve(axes, series(rows, "frames"), series(rows, name), colour, name[3:].replace("_", " "))
    axes.set_ylabel("R\u00b2")
    _legend(figure)
    _frames_axis(axes)
    return figure


def metric_curve(rows: Sequence[Row], key: str) -> Figure:
    """A small curve of one metric; a long one with its mean over 2 % of the rows."""
    figure, (axes,) = _panels(1, height=1.6, width=4.0)
    values = series(rows, key)
    found = np.isfinite(values)
    frames, values = series(rows, "frames")[found], values[found]
    if len(values) >= NUM_ROWS_AVERAGED:
        window = len(values) // 50
        axes.plot(frames, values, color=BLUE, lw=0.7, alpha=0.35)
        frames, values = (np.convolve(row, np.full(window, 1.0 / window), "valid") for row in (frames, values))
    axes.plot(frames, values, color=BLUE, lw=1.4)
    if key in ("train/loss", "train/gradient_norm") and 0 < 10 * values.min() < values.max():
        axes.set_yscale("log")
        subs = (1.0,) if values.max() > 30 * values.min() else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if np.abs(values).max() >= 1e4:
            axes.yaxis.set_major_formatter(FuncFormatter(short_count))
    _frames_axis(axes, label=False)
    return figure


def lap_histogram(times: Sequence[float], *, track: str) -> Figure:
    """Histogram of race times, with the medal times near them."""
    figure, (axes,) = _panels(1, height=2.6)
    axes.hist(times, bins=min(30, max(12, len(times) // 3)), color=BLUE, alpha=0.85)
    axes.set_xlabel("race time, s")
    axes.set_ylabel("laps")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    for name, at, colour in medal_times(track) if len(times) else ():
        if min(times) - 3 <= at <= max(times) + 3:
            axes.axvline(at, color=colour, lw=2.0, label=name)
    _legend(figure)
    return figure


def wall_hits(rows: np.ndarray) -> np.ndarray:
    """The steps of a lap at which a wall took much of the speed; one step for each hit."""
    speed = np.linalg.norm(rows[:, CAR_ROW["velocity"]], axis=1)
    at = np.flatnonzero((np.diff(speed) < -HIT_M_S) & (rows[1:, CAR_ROW.start("has_lateral_contact")] > 0)) + 1
    return at[np.diff(at, prepend=-10) > 4]


def lap_map(rows: np.ndarray, *, track: Track | None, author: np.ndarray | None) -> Figure:
    """A lap from above, coloured by speed, with its wall hits, the road, the gates and the author's line.

    Args:
        rows: Car rows of the lap, ``[T, row]``.
        track: The road below the line; ``None`` if it is not known.
        author: Car rows of the author's lap.
    """
    x, z = rows[:, CAR_ROW["position"]].T[[0, 2]]
    shape = np.ptp(z) / max(np.ptp(x), 1.0)
    figure = Figure(figsize=(WIDTH, 0.7 + WIDTH * min(max(shape, 0.4), 1.1)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.invert_yaxis()
    hits = wall_hits(rows)
    if track is not None:
        left, right = across(track, track.half_width)
        ends = slice(0, 1 if track.is_circuit else 0)  # a circuit's road is closed
        outline = np.concatenate([left, left[ends], right[ends], right[::-1]])
        axes.fill(*outline.T, color=EDGE, lw=0)
        for number, gate in enumerate((*track.checkpoints, track.finish), 1):
            axes.plot(*np.stack([left[gate], right[gate]]).T, color=FAINT, lw=1.6)
            spot = number_spot(left[gate], right[gate], hits=np.stack([x[hits], z[hits]], axis=1))
            axes.annotate(str(number), tuple(spot), color=INK, fontsize=10, ha="center", va="center")
    if author is not None:
        axes.plot(*author[:, CAR_ROW["position"]].T[[0, 2]], color=INK, lw=1.0, ls="--", label="author")
    kmh = 3.6 * np.linalg.norm(rows[:, CAR_ROW["velocity"]], axis=1)
    bounds = np.linspace(0.0, 50.0 * np.ceil(max(kmh.max(), 1.0) / 50.0), 11)
    band = np.digitize(kmh, bounds)
    starts = np.flatnonzero(np.diff(band, prepend=-1))
    pieces = [np.stack([x, z], axis=1)[i : j + 1] for i, j in zip(starts, [*starts[1:], len(x)], strict=True)]
    colours = ListedColormap(colormaps["turbo"](np.linspace(0.1, 0.9, len(bounds) - 1)))
    line = LineCollection(pieces, cmap=colours, norm=BoundaryNorm(bounds, colours.N), linewidths=2.6)
    line.set_array(kmh[starts])
    axes.add_collection(line)
    if len(hits):
        axes.plot(x[hits], z[hits], "x", color=RED, ms=9, mew=2.4, label="wall hit")
    bar = figure.colorbar(line, ax=axes, orientation="horizontal", shrink=0.7, aspect=40, pad=0.02, ticks=bounds[::2])
    bar.set_label("km/h", color=INK, fontsize=10)
    bar.ax.tick_params(colors=INK, labelsize=9.5, length=2)
    bar.outline.set_visible(False)
    _legend(figure)
    return figure


def number_spot(left: np.ndarray, right: np.ndarray, *, hits: np.ndarray) -> np.ndarray:
    """Where a gate's number stands: beyond its left end, or beyond its right end if a wall hit is near the left one.

    >>> left, right = np.array([0.0, 10.0]), np.array([0.0, 0.0])
    >>> number_spot(left, right, hits=np.zeros((0, 2))), number_spot(left, right, hits=np.array([[0.0, 15.0]]))
    (array([ 0., 14.]), array([ 0., -4.]))
    """
    spots = (left + 0.4 * (left - right), right + 0.4 * (right - left))
    return max(spots, key=lambda spot: np.linalg.norm(hits - spot, axis=1).min(initial=NEAR_M))


def lap_traces(lap: Mapping[str, np.ndarray]) -> Figure:
    """Speed with wall hits, keys, and mean and quantiles of the values along a lap."""
    rows = lap["rows"]
    has_quantiles = "quantiles" in lap
    heights = (2.0, 1.2, 2.0) if has_quantiles else (2.0, 1.0)
    figure, panels = _panels(len(heights), heights=heights, height=5.2 if has_quantiles else 3.4)
    seconds = STEP_S * np.arange(len(rows))
    kmh = 3.6 * np.linalg.norm(rows[:, CAR_ROW["velocity"]], axis=1)
    panels[0].plot(seconds, kmh, color=BLUE, lw=1.4)
    hits = wall_hits(rows)
    panels[0].plot(seconds[hits], kmh[hits], "x", color=RED, ms=7, mew=2.0)
    panels[0].set_ylabel("km/h")
    panels[0].set_ylim(bottom=0)
    steer = rows[:, CAR_ROW.start("input_steer")]
    keys = (
        ("right", steer > 0, ORANGE),
        ("left", steer < 0, ORANGE),
        ("brake", rows[:, CAR_ROW.start("input_brake")] > 0, RED),
        ("gas", rows[:, CAR_ROW.start("input_gas")] > 0, GREEN),
    )
    for line, (_, is_down, colour) in enumerate(keys):
        panels[1].fill_between(seconds, line + 0.1, line + 0.9, where=is_down, color=colour, lw=0, step="pre")
    panels[1].set_yticks([0.5, 1.5, 2.5, 3.5], [name for name, _, _ in keys])
    panels[1].set_ylim(0, 4)
    panels[1].grid(visible=False)
    if has_quantiles:
        quantiles = lap["quantiles"][: len(seconds)]
        at, count = seconds[: len(quantiles)], quantiles.shape[1]
        for i in range(0, count // 2, max(1, count // 8)):
            panels[2].fill_between(at, quantiles[:, i], quantiles[:, -1 - i], color=BLUE, alpha=0.16, lw=0)
        panels[2].plot(at, quantiles.mean(1), color=BLUE, lw=1.2)
        panels[2].set_ylabel("value")
    panels[-1].set_xlabel("race time, s")
    panels[-1].set_xlim(0, seconds[-1])
    return figure


def _panels(
    number: int, *, height: float, width: float = WIDTH, heights: Sequence[float] | None = None
) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    grid = figure.subplots(number, 1, sharex=True, squeeze=False, height_ratios=heights)
    panels = list(grid.flat)
    for axes in panels:
        axes.set_facecolor("none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(colors=INK, labelsize=9.5, length=3)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set(color=INK, fontsize=10)
        axes.grid(axis="y", color=EDGE, lw=0.8)
        axes.set_axisbelow(True)
    figure.align_ylabels()
    return figure, panels


def _curve(axes: Any, frames: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    marker = "o" if len(frames) <= MAX_MARKERS else None
    axes.plot(frames, values, color=colour, marker=marker, ms=3.5, lw=1.6, label=label)


def _legend(figure: Figure) -> None:
    if any(axes.get_legend_handles_labels()[0] for axes in figure.axes):
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=10, labelcolor=INK, handlelength=1.4)


def _frames_axis(axes: Any, *, label: bool = True) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
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


def mark_medals(axes: Any, medals: Sequence[tuple[str, float, str]], *, has_names: bool = True) -> None:
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
