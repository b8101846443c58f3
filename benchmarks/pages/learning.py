"""Summarise what runs of several seeds learnt, and when, into a committed result and a picture.

python benchmarks/pages/learning.py runs/hillside/* --write
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import describe_run, write_results
from tm_torchrl.evaluation import bootstrap_interval, interquartile_mean
from tm_torchrl.record.curves import compare_runs
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.tracks.medals import medals_of

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "learning.png"


def first_minutes(rows: list[dict[str, Any]], at_most_s: float) -> float | None:
    """Minutes until the first evaluation whose best lap is that fast."""
    for row in rows:
        if row["best_lap_s"] is not None and row["best_lap_s"] <= at_most_s:
            return float(row["seconds"]) / 60.0
    return None


def summarise(run: Path) -> dict[str, Any]:
    """A run's milestones."""
    rows = [row for row in read_evaluations(run) if "track" in row]
    if not rows:
        raise SystemExit(f"{run}: no evaluation on a track in it")
    medals = medals_of(rows[0]["track"])
    if medals is None:
        raise SystemExit(f"{run}: {rows[0]['track']} has no medals")
    facts = json.loads((run / "run.json").read_text())
    last = [row for row in rows if row["frames"] > 0.75 * rows[-1]["frames"]]
    return {
        "seed": facts["seed"],
        "track": rows[0]["track"],
        "minutes": rows[-1]["seconds"] / 60.0,
        "frames": rows[-1]["frames"],
        "updates": rows[-1]["updates"],
        "first_finish_min": first_minutes(rows, float("inf")),
        "gold_min": first_minutes(rows, medals.gold_s),
        "author_min": first_minutes(rows, medals.author_s),
        "best_lap_s": min(row["best_lap_s"] for row in rows if row["best_lap_s"] is not None),
        "last_median_lap_s": rows[-1]["median_lap_s"],
        "last_quarter_finish_rate": sum(row["finish_rate"] for row in last) / len(last),
        "last_quarter_laps": sum(row["num_laps"] for row in last),
        "git": facts["git"],
        "command": " ".join(Path(word).name if i == 0 else word for i, word in enumerate(facts["command"])),
    }


def main() -> None:
    """Summarise, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, one for each seed")
    parser.add_argument("--write", action="store_true", help="keep result and picture")
    parser.add_argument("--note", default="", help="the circumstances, kept with the result")
    args = parser.parse_args()
    rows = [summarise(run) for run in args.runs]
    for row in rows:
        print({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()})
    best = [row["best_lap_s"] for row in rows]
    print("best lap, IQM", interquartile_mean(best), "95 % interval", bootstrap_interval(best))
    if args.write:
        results = {**describe_run(device="cpu"), "note": args.note, "runs": rows}
        print("wrote", write_results("learning_cpu", results))
        compare_runs(args.runs).savefig(PICTURE, dpi=100)
        print("wrote", PICTURE)


if __name__ == "__main__":
    main()
