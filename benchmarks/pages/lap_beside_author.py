"""Draw where a run's best lap of the default track is faster than the author's, and where it is not.

python benchmarks/pages/lap_beside_author.py RUN      # writes docs/images/fast_lap.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tm_torchrl.evaluation.sectors import author_rows
from tm_torchrl.record.plots import draw_track
from tm_torchrl.record.run_folder import best_laps, lap_rows, load_time
from tm_torchrl.tracks import DEFAULT_TRACK, Track, load_track
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.world.car_row import CAR_ROW

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "fast_lap.png"
OURS, THEIRS, GAIN, LOSS = "#2d7dd2", "#5b6670", "#2fa84f", "#d1495b"
STEP_M = 5.0
BESIDE_M = 20.0  # the gain at a place is that of so many metres on either side
AIR_S = 0.2  # shorter flights are bumps


def places_of(track: Track, rows: np.ndarray) -> np.ndarray:
    """Metres along the centreline of a track that is no circuit, rising, of each row."""
    line = track.centreline[track.start :]
    edges = np.diff(line, axis=0)
    lengths = np.linalg.norm(edges, axis=1)
    metres = np.append(0.0, np.cumsum(lengths))
    found, nearest = [], 0
    for point in rows[:, CAR_ROW["position"]]:
        ahead = slice(nearest, nearest + 60)
        along = ((point - line[:-1][ahead]) * edges[ahead]).sum(1) / lengths[ahead] ** 2
        feet = line[:-1][ahead] + along.clip(0.0, 1.0)[:, None] * edges[ahead]
        best = int(np.linalg.norm(feet - point, axis=1).argmin())
        nearest += best
        found.append(metres[nearest] + float(along[best].clip(0.0, 1.0)) * lengths[nearest])
    return np.maximum.accumulate(found)


def flights(rows: np.ndarray, places_m: np.ndarray) -> list[tuple[float, float]]:
    """Where the car is in the air."""
    is_flying = np.r_[False, rows[:, CAR_ROW["wheel_has_contact"]].sum(1) == 0, False]
    begins, ends = (np.flatnonzero(np.diff(is_flying.astype(int)) == sign) for sign in (1, -1))
    return [
        (places_m[begin], places_m[end - 1])
        for begin, end in zip(begins, ends, strict=True)
        if 0.05 * (end - begin) >= AIR_S
    ]


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    track, path, theirs = load_track(DEFAULT_TRACK), best_laps(args.run).get(DEFAULT_TRACK), author_rows(DEFAULT_TRACK)
    medals = medals_of(DEFAULT_TRACK)
    if path is None or theirs is None or medals is None:
        raise SystemExit(f"{args.run}: needs a lap on {DEFAULT_TRACK}, and the track an author's lap")
    laps = {"policy": lap_rows(path), "author": theirs}
    places = {name: places_of(track, rows) for name, rows in laps.items()}
    grid = np.arange(0.0, min(each[-1] for each in places.values()), STEP_M)
    times, speeds = {}, {}
    for name, rows in laps.items():
        first = np.unique(places[name], return_index=True)[1]
        times[name] = np.interp(grid, places[name][first], rows[:, CAR_ROW["race_time_ms"]][first, 0] / 1000.0)
        speed = 3.6 * np.linalg.norm(rows[:, CAR_ROW["velocity"]], axis=1)
        speeds[name] = np.interp(grid, places[name][first], speed[first])
    ahead = times["author"] - times["policy"]

    figure = Figure(figsize=(13.0, 5.8), layout="constrained", facecolor="white")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.0, 1.7))
    plan, right = halves
    axes = plan.subplots()
    draw_track(axes, track)
    position = laps["policy"][:, CAR_ROW["position"]][:, (0, 2)]
    here = places["policy"][:-1]
    gain = np.interp(here + BESIDE_M, grid, ahead) - np.interp(here - BESIDE_M, grid, ahead)
    lines = LineCollection(list(np.stack([position[:-1], position[1:]], axis=1)), cmap="RdYlGn", linewidths=4.0)
    lines.set_array(gain)
    lines.set_clim(-0.1, 0.1)
    axes.add_collection(lines)
    axes.set_xlim(position[:, 0].min() - 40.0, position[:, 0].max() + 40.0)
    axes.set_ylim(position[:, 1].max() + 30.0, position[:, 1].min() - 30.0)
    plan.suptitle(f"{DEFAULT_TRACK}: {load_time(path):.2f} s, author {medals.author_s:.2f} s", fontweight="bold")
    plan.colorbar(lines, ax=axes, shrink=0.5, pad=0.02, label=f"seconds gained in {2 * BESIDE_M:.0f} m")

    fast, lead = right.subplots(2, 1, sharex=True, height_ratios=(1.5, 1.0))
    for name, colour in (("author", THEIRS), ("policy", OURS)):
        fast.plot(grid, speeds[name], color=colour, lw=1.6, label=name)
    fast.legend(loc="lower right", frameon=False)
    fast.set_ylabel("km/h")
    fast.set_ylim(0, None)
    lead.axhline(0.0, color="#9aa4ad", lw=0.8)
    lead.plot(grid, ahead, color=OURS, lw=1.6)
    lead.fill_between(grid, ahead, 0.0, where=ahead >= 0, color=GAIN, alpha=0.25, lw=0)
    lead.fill_between(grid, ahead, 0.0, where=ahead < 0, color=LOSS, alpha=0.25, lw=0)
    lead.set_ylabel("seconds ahead of the author")
    lead.set_xlabel("metres along the road; shaded: the policy's car is in the air")
    for each in (fast, lead):
        for begin, end in flights(laps["policy"], places["policy"]):
            each.axvspan(begin, end, color="#5b6670", alpha=0.15, lw=0)
        each.grid(alpha=0.3)
        each.set_xlim(0, grid[-1])
        for side in ("top", "right"):
            each.spines[side].set_visible(False)
    figure.savefig(PICTURE, dpi=100, bbox_inches="tight", pad_inches=0.15)
    print("wrote", PICTURE)


if __name__ == "__main__":
    main()
