"""Figures of tracks and laps: a gallery, a driven line coloured by speed, a histogram of race times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tm_torchrl.sim.camera.views import top_view
from tm_torchrl.tracks import BUILTIN_TRACKS, Track
from tm_torchrl.tracks.medals import medals_of

INK, FAINT, BLUE = "#1d2733", "#8893a0", "#2563a8"
MEDAL_COLOURS = {"bronze": "#b87333", "silver": "#8f9aa5", "gold": "#d4a017", "author": "#2e8b57"}


def medal_times(track: str) -> list[tuple[str, float, str]]:
    """Name, time in seconds and colour of a track's medals, bronze first; empty for a track without medals."""
    medals = medals_of(track) if track in BUILTIN_TRACKS else None
    if medals is None:
        return []
    return [(name, float(getattr(medals, f"{name}_s")), colour) for name, colour in MEDAL_COLOURS.items()]


def track_gallery(tracks: Sequence[Track], *, columns: int = 4) -> Figure:
    """Every track from above with its height profile, checkpoints and medal times."""
    if not tracks:
        raise ValueError("tracks: must not be empty")
    columns = min(columns, len(tracks))
    rows = -(-len(tracks) // columns)
    figure = Figure(figsize=(3.6 * columns, 4.5 * rows), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(rect=(0.005, 0.0, 0.985, 1.0))  # type: ignore[union-attr, call-arg]  # a margin
    grid = figure.subfigures(rows, columns, squeeze=False)
    for cell, track in zip(grid.flat, tracks, strict=False):
        plan, profile, times = cell.subplots(3, 1, height_ratios=(5.2, 1.0, 0.55))
        draw_track(plan, track)
        about = f"{track.length:,.0f} m {'circuit' if track.is_circuit else 'course'}"
        if track.num_laps > 1:
            about = f"{track.num_laps} laps of {track.length / track.num_laps:,.0f} m"
        plan.set_title(f"{track.name}", fontsize=15, fontweight="bold", color=INK, loc="left", pad=2, parse_math=False)
        plan.set_title(about, fontsize=9, color=FAINT, loc="right", pad=2)
        _draw_profile(profile, track)
        _write_medals(times, track)
    return figure


def draw_track(axes: Any, track: Track) -> None:
    """Draw a track from above, with start, checkpoints and finish, on matplotlib axes."""
    low, high = track.centreline.min(axis=0), track.centreline.max(axis=0)
    margin = float((track.half_width + track.wall_offset).max()) + 12.0
    x0, z0 = track.raster.origin
    picture = top_view(track, pixel_m=1.0)
    axes.imshow(picture, extent=(x0, x0 + picture.shape[1], z0 + picture.shape[0], z0), interpolation="antialiased")
    span = max(high[0] - low[0], high[2] - low[2]) + 2 * margin
    middle = 0.5 * (low + high)
    axes.set_xlim(middle[0] - span / 2, middle[0] + span / 2)
    axes.set_ylim(middle[2] + span / 2, middle[2] - span / 2)
    axes.set_facecolor("#3e683a")
    edges = np.stack(across(track, track.half_width + track.wall_offset))
    for gate in track.checkpoints:
        axes.plot(*edges[:, gate].T, color="#5ac8eb", lw=1.6)
    axes.plot(*edges[:, track.finish].T, color="#ffffff", lw=2.4)
    x, _, z = track.centreline[track.start]
    direction = np.gradient(track.centreline, axis=0)[track.start]
    direction /= np.linalg.norm(direction)
    reach = 0.07 * span
    axes.annotate(
        "", (x + reach * direction[0], z + reach * direction[2]), (x, z),
        arrowprops={"arrowstyle": "-|>", "color": "#ffd23f", "lw": 2.2, "mutation_scale": 14},
    )  # fmt: skip
    axes.set_axis_off()


def across(track: Track, reach_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points ``[N, 2]`` (x and z) a distance to the left and to the right of each point of the centreline."""
    ahead = np.gradient(track.centreline, axis=0)
    left = np.stack([ahead[:, 2], -ahead[:, 0]], axis=1) / np.hypot(ahead[:, 0], ahead[:, 2])[:, None]
    middle, offset = track.centreline[:, (0, 2)], np.reshape(reach_m, (-1, 1)) * left
    return middle + offset, middle - offset


def _draw_profile(axes: Any, track: Track) -> None:
    height = track.centreline[:, 1]
    run = np.arange(len(height))
    axes.fill_between(run, height, height.min() - 2.0, color="#c7d3c0", lw=0)
    axes.plot(run, height, color="#4d7044", lw=1.2)
    middle = 0.5 * (height.max() + height.min())
    half = max(0.5 * (height.max() - height.min()), 6.0) + 1.0
    axes.set_ylim(middle - half, middle + half)
    axes.set_xlim(0, len(height))
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(0, len(height))
    axes.set_xticks([at for at in ticks if at < 0.94 * len(height)])  # a label at the end would leave the picture
    axes.tick_params(labelsize=7, colors=FAINT, length=2)
    axes.set_ylabel("m", fontsize=7, color=FAINT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c9d0d8")


def _write_medals(axes: Any, track: Track) -> None:
    axes.set_axis_off()
    medals = medal_times(track.name)
    if not medals:
        axes.text(
            0.5, 0.5, "no medal times", ha="center", va="center", fontsize=8, color=FAINT, transform=axes.transAxes
        )
        return
    for place, (name, time, colour) in enumerate(medals):
        at = (place + 0.5) / len(medals)
        axes.text(
            at, 0.62, f"{time:.2f}", ha="center", fontsize=10, fontweight="bold", color=colour, transform=axes.transAxes
        )
        axes.text(at, 0.05, name, ha="center", fontsize=7.5, color=FAINT, transform=axes.transAxes)


def driven_line(track: Track, position: np.ndarray, speed: np.ndarray, *, title: str = "") -> Figure:
    """A driven line over the track, coloured by speed, and the speed over time.

    Args:
        track: The track below the line.
        position: Positions in metres, ``[T, 3]``, one each 50 ms.
        speed: Speeds in m/s, ``[T]``.
        title: Title of the figure.
    """
    figure = Figure(figsize=(9.0, 9.6), layout="constrained", facecolor="white")
    plan, trace = figure.subplots(2, 1, height_ratios=(5, 1))
    draw_track(plan, track)
    points = position[:, (0, 2)]
    lines = LineCollection(list(np.stack([points[:-1], points[1:]], axis=1)), cmap="turbo", linewidths=2.6)
    lines.set_array(3.6 * speed[:-1])
    plan.add_collection(lines)
    figure.colorbar(lines, ax=plan, shrink=0.5, label="km/h", pad=0.01)
    plan.set_title(title, fontsize=14, fontweight="bold", color=INK, loc="left", parse_math=False)
    seconds = 0.05 * np.arange(len(speed))
    trace.plot(seconds, 3.6 * speed, color="#c8442c", lw=1.4)
    trace.set_xlabel("s", color=FAINT)
    trace.set_ylabel("km/h", color=FAINT)
    trace.set_xlim(0, max(seconds[-1], 0.1))
    trace.set_ylim(0, None)
    trace.grid(alpha=0.3)
    return figure


def lap_histogram(times: Sequence[float], *, track: str) -> Figure:
    """Histogram of race times, with the medal times near them."""
    figure = Figure(figsize=(4.5, 2.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.hist(times, bins=min(30, max(12, len(times) // 3)), color=BLUE, alpha=0.85)
    axes.set_xlabel("race time, s")
    axes.set_ylabel("laps")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    near = [medal for medal in medal_times(track) if len(times) and min(times) - 3 <= medal[1] <= max(times) + 3]
    for name, at, colour in near:
        axes.axvline(at, color=colour, lw=2.0, label=name)
    if near:
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=10)
    return figure
