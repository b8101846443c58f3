"""Starts on fast laps and the author's laps in the replay, compared over seeds, in 122,880 frames.

    python benchmarks/studies/author_pace.py --seeds 2 --write
    python benchmarks/studies/author_pace.py --arms "on the author's lap" --write

The default's runs are those of ``short_drives.py``, up to the same frames: it has the same settings. Of the evaluations
in the last quarter of the frames, the table shows the mean share of finished laps, the median of the median laps, and
the best lap. Seeds that are in the results file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import RESULTS
from benchmarks.studies.short_drives import COMMON, DEFAULT, measured

FRAMES = 122_880
SHORT = [*COMMON, f"total_frames={FRAMES}"]
FEWER = [*SHORT, "env.starts.zone=0.2"]  # instead of 0.5 anywhere along the road
AUTHOR = "replay.demonstrations={_target_: tm_torchrl.data.DemonstrationShare, data: author, share: 0.25}"
ARMS = {
    "more on the start line": FEWER,
    "on the author's lap": [*FEWER, "env.starts.lap=0.3"],
    "where time is lost to the author": [*FEWER, "env.starts.lost_time=0.3"],
    "on the own best lap": [*FEWER, "env.starts.lap=0.3", "env.starts.laps=own"],
    "where time is lost to the own best lap": [*FEWER, "env.starts.lost_time=0.3", "env.starts.laps=own"],
    "a quarter of the replay is the author's": [*SHORT, AUTHOR],
}


def late(run: dict[str, list[Any]], name: str) -> list[float]:
    """The numbers of a column in the evaluations of the last quarter, without laps that did not finish."""
    pairs = zip(run["frames"], run[name], strict=True)
    return [value for frames, value in pairs if 0.75 * FRAMES < frames <= FRAMES and value is not None]


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="all by default")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "author_pace.json"
    runs = measured(path, ARMS, arms=arguments.arms, seeds=arguments.seeds, is_kept=arguments.write)
    table = Table("settings", "finished, last quarter", "median lap", "best lap")
    short = json.loads((RESULTS / "short_drives.json").read_text(encoding="utf-8"))["runs"]
    for arm, found in {DEFAULT: short[DEFAULT], **runs}.items():
        rows = [
            (
                f"{statistics.mean(late(run, 'finish_rate')):.0%}",
                f"{statistics.median(late(run, 'median_lap_s') or [float('nan')]):.2f}",
                f"{min(late(run, 'best_lap_s'), default=float('nan')):.2f}",
            )
            for run in found.values()
        ]
        if rows:
            table.add_row(arm, *(" ".join(column) for column in zip(*rows, strict=True)))
    Console().print(table)


if __name__ == "__main__":
    main()
