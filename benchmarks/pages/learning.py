"""Summarise what runs of several seeds learnt, and when, into a committed result and a picture.

python benchmarks/pages/learning.py runs/hillside/* --write
python benchmarks/pages/learning.py runs/fast/* --name fast_laps --write

Runs of several tracks go into one result, without a picture.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import describe_run, write_results
from tm_torchrl.agents import load_agent
from tm_torchrl.evaluation import bootstrap_interval, drive_laps, evaluation_env, interquartile_mean
from tm_torchrl.record.curves import compare_runs
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.sim import Starts
from tm_torchrl.tracks import DEFAULT_TRACK
from tm_torchrl.tracks.medals import medals_of

NUM_LAPS = 100
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images"


def first_minutes(rows: list[dict[str, Any]], at_most_s: float, *, clock: str = "seconds") -> float | None:
    """Minutes, or CPU minutes with ``clock="cpu_s"``, until the first evaluation whose best lap is that fast."""
    laps = ((row[clock] / 60.0, row["best_lap_s"]) for row in rows)
    return next((minutes for minutes, lap_s in laps if lap_s is not None and lap_s <= at_most_s), None)


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
    marks = {"first_finish": float("inf"), "gold": medals.gold_s, "author": medals.author_s}
    return {
        "seed": facts["seed"],
        "track": rows[0]["track"],
        "minutes": rows[-1]["seconds"] / 60.0,
        "cpu_minutes": rows[-1]["cpu_s"] / 60.0,
        "frames": rows[-1]["frames"],
        "updates": rows[-1]["updates"],
        **{f"{name}_min": first_minutes(rows, time_s) for name, time_s in marks.items()},
        **{f"{name}_cpu_min": first_minutes(rows, time_s, clock="cpu_s") for name, time_s in marks.items()},
        "author_s": medals.author_s,
        "best_lap_s": min(row["best_lap_s"] for row in rows if row["best_lap_s"] is not None),
        "last_median_lap_s": rows[-1]["median_lap_s"],
        "last_quarter_finish_rate": sum(row["finish_rate"] for row in last) / len(last),
        "last_quarter_laps": sum(row["num_laps"] for row in last),
        "git": facts["git"],
        "command": " ".join(Path(word).name if i == 0 else word for i, word in enumerate(facts["command"])),
    }


def from_rest(run: Path) -> dict[str, Any]:
    """Laps of a run's last network that begin at rest, as the author's, and up to 5 cm aside; evaluated ones roll."""
    agent = load_agent(run, which="latest")
    env = evaluation_env(
        agent.settings["env"]["track"] or DEFAULT_TRACK, num_cars=NUM_LAPS, starts=Starts(jitter_m=0.05)
    )
    laps = drive_laps(env, agent.actor.eval(), num_laps=NUM_LAPS).summary()
    return {f"rest_{name}": laps[name] for name in ("num_laps", "finish_rate", "median_lap_s", "best_lap_s")}


def main() -> None:
    """Summarise, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, one for each seed")
    parser.add_argument("--name", default="learning", help="of result and picture")
    parser.add_argument("--from-rest", action="store_true", help="let the last networks drive 100 laps from rest too")
    parser.add_argument("--write", action="store_true", help="keep result and picture")
    parser.add_argument("--note", default="", help="the circumstances, kept with the result")
    args = parser.parse_args()
    rows = [summarise(run) | (from_rest(run) if args.from_rest else {}) for run in args.runs]
    for row in rows:
        print({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()})
    if len({row["track"] for row in rows}) == 1:
        best = [row["best_lap_s"] for row in rows]
        print("best lap, IQM", interquartile_mean(best), "95 % interval", bootstrap_interval(best))
    if args.write:
        results = {**describe_run(device="cpu"), "note": args.note, "runs": rows}
        print("wrote", write_results(f"{args.name}_cpu", results))
        if len({row["track"] for row in rows}) == 1:
            picture = PICTURES / f"{args.name}.png"
            compare_runs(args.runs).savefig(picture, dpi=100)
            print("wrote", picture)


if __name__ == "__main__":
    main()
