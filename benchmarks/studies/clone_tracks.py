"""One clone of several tracks' records, corrected once: how it drives these tracks, others, and generated ones.

    python benchmarks/studies/clone_tracks.py --write

40 laps of each of eight tracks are recorded, by the driver who follows the track's record. A run learns from all of
them; it drives half of the time of 40 attempts on each track, which that driver corrects; the second run goes on from
the first with everything. Its best network is measured on each track, on four others, and on generated tracks of seeds
that training never uses. Steps that are in the folder of --work already are not done again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from rich.console import Console
from rich.table import Table

from benchmarks.results_file import describe_run, write_results
from benchmarks.studies.clones import SEED, done, learn, record
from tm_torchrl.agents import load_agent
from tm_torchrl.evaluation.laps import drive_laps, evaluation_env
from tm_torchrl.evaluation.recording import STARTS
from tm_torchrl.tracks import Track, generate_track, load_track

LEARNT = ["alley", "booster", "bowl", "leaps", "meadow", "mountain", "oval", "quarry"]
OTHERS = ["hillside", "marathon", "ring", "valley"]
GENERATED = range(10_000, 10_016)  # seeds of held-out tracks
LAPS = ["--driver", "record", "--laps", "40"]
CORRECTIONS = [*LAPS, "--steps", "1200", "--cars", "40"]
RUNS = [
    ["total_frames=1_000_000", "learning_rate=[exponential,[0,1.0e-3],[1_000_000,2.0e-5]]"],
    ["total_frames=3_000_000", "learning_rate=[linear,[0,1.0e-3],[3_000_000,2.0e-5]]"],
]
SETTINGS = [f"env.tracks=[{','.join(LEARNT)}]", "evaluation.num=8"]
NUM_LAPS = 32


def drives(folder: Path) -> dict[str, dict[str, Any]]:
    """Finish rate and lap times of the best network of a run, by track."""
    tracks: list[Track] = [load_track(name) for name in (*LEARNT, *OTHERS)]
    tracks += [generate_track(seed, name=f"generated {seed}") for seed in GENERATED]
    agent = load_agent(folder)
    limits, found = agent.task.evaluation_limits, {}
    for track in tracks:
        env = evaluation_env(track, num_cars=NUM_LAPS, seed=SEED, starts=STARTS["perturbed"], limits=limits)
        laps = drive_laps(env, agent.actor, num_laps=NUM_LAPS).summary()
        found[track.name] = {name: laps[name] for name in ("finish_rate", "median_lap_s", "best_lap_s")}
    return found


def main() -> None:
    """Do what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="keep laps and runs in this folder")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    steps: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(exist_ok=True)

        def do(name: str, step: partial[None], results: Any = dict) -> None:
            steps[name] = done(work, name, step, results)

        data = [work / track for track in LEARNT]
        for track in LEARNT:
            do(track, partial(record, track, *LAPS, "--out", work / track))
        for number, settings in enumerate(RUNS, 1):
            folder, before = work / f"run{number}", work / f"run{number - 1}"
            start = [f"warm_start={{source: '{before}'}}"] if number > 1 else []
            every = f"evaluation.every_frames={500_000 * number}"
            step = partial(learn, folder, [*SETTINGS, *settings, *start, every], list(data))
            do(folder.name, step, partial(drives, folder))
            if number < len(RUNS):
                for track in LEARNT:
                    name = f"{track}_corrected"
                    words = [track, *CORRECTIONS, "--student", folder, "--out", work / name, "--seed", 10]
                    do(name, partial(record, *words))
                    data.append(work / name)
    if arguments.write:
        settings_kept = {"laps": LAPS, "corrections": CORRECTIONS, "runs": RUNS, "common": SETTINGS}
        write_results("clone_tracks", {**describe_run(device="cpu"), "settings": settings_kept, "steps": steps})
    table = Table("track", *(f"{what}, run {number}" for number in (1, 2) for what in ("finished", "median", "best")))
    for name in steps["run1"]:
        if name != "cpu_s":
            rows = [steps[run][name] for run in ("run1", "run2")]
            times = [f"{row[key]:.2f}" if row[key] else "-" for row in rows for key in ("median_lap_s", "best_lap_s")]
            table.add_row(
                name, f"{rows[0]['finish_rate']:.0%}", *times[:2], f"{rows[1]['finish_rate']:.0%}", *times[2:]
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
