"""What recorded laps bring to training with values on the default track, over seeds.

    python benchmarks/studies/demonstrations.py --seeds 5 --write
    python benchmarks/studies/demonstrations.py --study demonstrations_margin --seeds 3 --write

All arms learn with the default network and the settings of ``experiment=short_drive``: from nothing, with a quarter of
each batch from the recorded laps, from the weights of a clone of these laps, and both. A clone explores a fifth as
much; one more arm does so from nothing. Recording and cloning count: each arm has the frames that fit into about the
same CPU seconds, which are those of recording and learning, without evaluations. The second study is of the last arm
with and without a margin. Seeds that are in the results file already, with the same settings, are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
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
from benchmarks.studies import FORMER_WEIGHTS
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
DRIVE = ["experiment=short_drive", "evaluation.every_frames=10_240", "device=cpu", FORMER_WEIGHTS]
SHARE = "replay.demonstrations={{_target_: tm_torchrl.data.DemonstrationShare, data: '{laps}', share: 0.25}}"
LITTLE = "exploration.epsilon=0.02"
CLONED = "warm_start={{source: '{clone}'}}"
BOTH = [SHARE, CLONED, LITTLE]
MARGIN = "+objective.loss.margin={{_target_: tm_torchrl.objectives.DemonstrationMargin, size: 0.02, weight: 0.3}}"
STUDIES = {  # by name of the results file
    "demonstrations": {
        "nothing": ["total_frames=240_000"],
        "nothing, little exploration": ["total_frames=240_000", LITTLE],
        "laps in the replay": ["total_frames=180_000", SHARE],
        "a clone": ["total_frames=140_000", CLONED, LITTLE],
        "both": ["total_frames=120_000", *BOTH],
    },
    "demonstrations_margin": {
        "both": ["total_frames=80_000", *BOTH],
        "both, margin": ["total_frames=80_000", *BOTH, MARGIN],
    },
}
KEPT = ("frames", "finish_rate", "median_lap_s", "best_lap_s")
LAST = 3  # evaluations
MANY = 0.95


def learn(folder: Path, settings: list[str]) -> None:
    """Train a run."""
    with mock.patch("tm_torchrl.trainers.run.write_report"):
        train([*settings, "log.tensorboard=false"], folder=folder, is_quiet=True)


def trained(work: Path, name: str, settings: list[str]) -> list[dict[str, Any]]:
    """The evaluations of a run, which is not trained again if it is there."""
    done(work, name, lambda: learn(work / name, settings), dict)
    return read_evaluations(work / name)


def run(name: str, arm: list[str], *, seed: int, work: Path) -> dict[str, list[Any]]:
    """Of each evaluation of 16 laps: CPU seconds with those of recording and cloning, frames, and laps."""
    before_s, settings = 0.0, " ".join(arm)
    laps, clone = work / "laps", work / f"clone{seed}"
    if "{laps}" in settings or "{clone}" in settings:
        before_s += done(work, laps.name, lambda: record(*LAPS, "--out", laps), dict)["cpu_s"]
    if "{clone}" in settings:
        before_s += trained(work, clone.name, [*CLONE, f"data='{laps}'", f"seed={seed}"])[-1]["cpu_s"]
    given = [setting.format(laps=laps, clone=clone) for setting in arm]
    rows = trained(work, f"{name}{seed}", [*DRIVE, *given, f"seed={seed}"])
    return {
        "cpu_s": [round(before_s + row["cpu_s"], 1) for row in rows],
        **{name: [row[name] for row in rows] for name in KEPT},
    }


def first(found: dict[str, list[Any]], *, most_s: float = math.inf) -> float:
    """CPU seconds until most laps finish, with a median of at most so many seconds."""
    columns = (found[name] for name in ("cpu_s", "finish_rate", "median_lap_s"))
    rows = zip(*columns, strict=True)
    return next((cpu_s for cpu_s, share, median in rows if share >= MANY and median <= most_s), math.inf)


def by(found: dict[str, list[Any]], cpu_s: float) -> tuple[float, float, float]:
    """Mean share of finished laps and median of the medians of the last three evaluations by then, and best lap."""
    until = [i for i, spent in enumerate(found["cpu_s"]) if spent <= cpu_s]
    rates, medians = ([found[name][i] for i in until[-LAST:]] for name in ("finish_rate", "median_lap_s"))
    best = min((found["best_lap_s"][i] or math.inf for i in until), default=math.inf)
    return statistics.mean(rates), statistics.median([each or math.inf for each in medians]), best


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--study", choices=STUDIES, default="demonstrations")
    parser.add_argument("--work", type=Path, help="keep laps and runs in this folder")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    arms = STUDIES[arguments.study]
    path = RESULTS / f"{arguments.study}.json"
    settings = {"laps": LAPS, "clone": CLONE, "drive": DRIVE, "arms": arms}
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    runs: dict[str, dict[str, Any]] = before["runs"] if before.get("settings") == settings else {}
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)) / arguments.study  # both have an arm of one name
        work.mkdir(parents=True, exist_ok=True)
        for seed in range(arguments.seeds):
            for name, arm in arms.items():
                if str(seed) not in runs.setdefault(name, {}):
                    runs[name][str(seed)] = run(name, arm, seed=seed, work=work)
                    if arguments.write:
                        write_results(path.stem, {**describe_run(device="cpu"), "settings": settings, "runs": runs})
    medals = medals_of(DEFAULT_TRACK)
    assert medals is not None
    equal_s = min(found["cpu_s"][-1] for seeds in runs.values() for found in seeds.values())
    titles = ("CPU s to 95 % finished", f"and a median of {medals.gold_s:.2f} s", f"by {equal_s:.0f} s: finished")
    table = Table("begins with", *titles, "median", "best lap")
    for name, seeds in runs.items():
        columns = []
        for found in seeds.values():
            share, median, best = by(found, equal_s)
            times = (first(found), first(found, most_s=medals.gold_s))
            columns.append((*(f"{each:.0f}" for each in times), f"{share:.0%}", f"{median:.1f}", f"{best:.1f}"))
        table.add_row(name, *(" ".join(column) for column in zip(*columns, strict=True)))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
