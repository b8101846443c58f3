"""What recorded laps bring to training with values on the default track, over seeds.

    python benchmarks/studies/demonstrations.py --seeds 5 --write

All arms learn with the default network and the settings of ``experiment=short_drive``: from nothing, with a quarter of
each batch from the recorded laps, from the weights of a clone of these laps, and both. Recording and cloning count:
each arm has the frames that fit into about the same CPU seconds. Seeds that are in the results file already are not run
again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from rich.console import Console
from rich.table import Table

from benchmarks.results_file import RESULTS, describe_run, write_results
from benchmarks.studies.clones import done, record
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.tracks import DEFAULT_TRACK
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.trainers import train

LAPS = [DEFAULT_TRACK, "--laps", "100"]
CLONE = [
    *("algorithm=cloning", "total_frames=600_000", "evaluation.every_frames=300_000"),
    "learning_rate=[exponential,[0,1.0e-3],[600_000,2.0e-5]]",
]
DRIVE = ["experiment=short_drive", "evaluation.every_frames=10_240", "device=cpu"]
ARMS = {"nothing": 240_000, "laps in the replay": 180_000, "a clone": 140_000, "both": 120_000}  # frames
SHARE = "replay.demonstrations={{_target_: tm_torchrl.data.DemonstrationShare, data: '{laps}', share: 0.25}}"
CLONED = ["warm_start={{source: '{clone}'}}", "exploration.epsilon=0.02"]
SETTINGS = {"nothing": [], "laps in the replay": [SHARE], "a clone": CLONED, "both": [SHARE, *CLONED]}
KEPT = ("frames", "finish_rate", "median_lap_s", "best_lap_s")


def learn(folder: Path, settings: list[str]) -> None:
    """Train a run."""
    with mock.patch("tm_torchrl.trainers.run.write_report"):
        train([*settings, "log.tensorboard=false"], folder=folder, is_quiet=True)


def curve(folder: Path, *, before_s: float) -> dict[str, list[Any]]:
    """Of each evaluation of 16 laps: CPU seconds with those of what came before, frames, and laps."""
    rows = read_evaluations(folder)
    return {
        "cpu_s": [round(before_s + row["cpu_s"], 1) for row in rows],
        **{name: [row[name] for row in rows] for name in KEPT},
    }


def run(arm: str, *, seed: int, work: Path) -> dict[str, Any]:
    """The curve of a run, after recording and cloning where the arm has them."""
    before_s, own = 0.0, work / f"{arm}{seed}"
    laps, clone = work / "laps", work / f"clone{seed}"
    if arm != "nothing":
        before_s += done(work, laps.name, lambda: record(*LAPS, "--out", laps), dict)["cpu_s"]
    if CLONED[0] in SETTINGS[arm]:
        settings = [*CLONE, f"data='{laps}'", f"seed={seed}"]
        before_s += done(work, clone.name, lambda: learn(clone, settings), dict)["cpu_s"]
    given = [setting.format(laps=laps, clone=clone) for setting in SETTINGS[arm]]
    learn(own, [*DRIVE, f"total_frames={ARMS[arm]}", *given, f"seed={seed}"])
    return curve(own, before_s=before_s)


def first(found: dict[str, list[Any]], name: str, good: float, *, least: bool) -> float:
    """CPU seconds until a column was good first."""
    pairs = zip(found["cpu_s"], found[name], strict=True)
    return next((cpu_s for cpu_s, value in pairs if value is not None and (value >= good) == least), float("inf"))


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="all by default")
    parser.add_argument("--work", type=Path, help="keep laps and runs in this folder")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    path = RESULTS / "demonstrations.json"
    runs: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))["runs"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(exist_ok=True)
        for seed in range(arguments.seeds):
            for arm in arguments.arms:
                if str(seed) not in runs.setdefault(arm, {}):
                    runs[arm][str(seed)] = run(arm, seed=seed, work=work)
                    if arguments.write:
                        write_results(path.stem, {**describe_run(device="cpu"), "runs": runs})
    medals = medals_of(DEFAULT_TRACK)
    assert medals is not None
    equal_s = min(found["cpu_s"][-1] for seeds in runs.values() for found in seeds.values())
    titles = (
        "CPU s to 95 % finished",
        f"to a median of {medals.gold_s:.2f} s",
        f"last median by {equal_s:.0f} s",
        "best",
    )
    table = Table("begins with", *titles)
    for arm, seeds in runs.items():
        columns = []
        for found in seeds.values():
            until = [i for i, cpu_s in enumerate(found["cpu_s"]) if cpu_s <= equal_s]
            medians = [found["median_lap_s"][i] for i in until[-3:]]
            best = min((found["best_lap_s"][i] or float("inf") for i in until), default=float("inf"))
            columns.append(
                (
                    f"{first(found, 'finish_rate', 0.95, least=True):.0f}",
                    f"{first(found, 'median_lap_s', medals.gold_s, least=False):.0f}",
                    f"{statistics.median([each or float('inf') for each in medians]):.1f}",
                    f"{best:.1f}",
                )
            )
        table.add_row(arm, *(" ".join(column) for column in zip(*columns, strict=True)))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
