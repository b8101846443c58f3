"""Clones of the driver of the author's lap or of the record, who then corrects them: finish rate and laps, over seeds.

    python benchmarks/studies/clones.py --seeds 0 1 2 --write
    python benchmarks/studies/clones.py --driver record --seeds 0 1 2 --write

All seeds learn from the same 200 laps. Then a run drives half of the time of 160 attempts, and the driver says what it
would have done, also in attempts that do not finish. The second run goes on from the first one's weights with all laps.
After a correction of 240 attempts, without random actions, the third goes on from there for three times as long.
The best network of each run is measured on 100 laps from starts perturbed like those of the recorded laps, that of the
third run also from rest, up to 5 cm aside. CPU seconds are those of recording and of training, with evaluations.
Steps that are in the folder of --work already are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import RESULTS, describe_run, write_results
from tm_torchrl.agents import load_agent
from tm_torchrl.commands import record as record_command
from tm_torchrl.evaluation.laps import drive_laps, evaluation_env
from tm_torchrl.evaluation.recording import STARTS
from tm_torchrl.sim import Starts
from tm_torchrl.trainers import train

LAPS = ["hillside", "--laps", "200"]
CORRECTIONS = [  # after the first and the second run
    ["hillside", "--laps", "160", "--steps", "1200", "--cars", "160"],
    ["hillside", "--laps", "240", "--steps", "700", "--cars", "240", "--disturbed", "0"],
]
CLONE = ["algorithm=cloning", "objective=policy", "objective.network.layer_norm=true", "optimizer.eps=1e-8"]

SHORT = ["total_frames=1_000_000", "evaluation.every_frames=100_000"]
RUNS = [
    [*SHORT, "learning_rate=[exponential,[0,1.0e-3],[1_000_000,2.0e-5]]"],
    [*SHORT, "learning_rate=[exponential,[0,5.0e-4],[1_000_000,2.0e-5]]"],
    [
        *("total_frames=3_000_000", "evaluation.every_frames=300_000", "evaluation.num=64"),
        "learning_rate=[linear,[0,1.0e-3],[3_000_000,2.0e-5]]",
    ],
]
NUM_LAPS, SEED = 100, 77


def record(*words: object) -> None:
    """Run ``tm-torchrl record`` in this process."""
    with mock.patch.object(sys, "argv", ["record", *map(str, words)]):
        record_command.main()


def learn(folder: Path, settings: list[str], data: list[Path]) -> None:
    """Train a clone."""
    names = ",".join(f"'{path}'" for path in data)
    with mock.patch("tm_torchrl.trainers.run.write_report"):
        train([*CLONE, "log.tensorboard=false", f"data=[{names}]", *settings], folder=folder, is_quiet=True)


def drives(folder: Path, *, starts: Starts = STARTS["perturbed"]) -> dict[str, Any]:
    """Finish rate and lap times of the best network of a run."""
    agent = load_agent(folder)
    limits = agent.task.evaluation_limits
    env = evaluation_env("hillside", num_cars=NUM_LAPS, seed=SEED, starts=starts, limits=limits)
    laps = drive_laps(env, agent.actor, num_laps=NUM_LAPS).summary()
    return {name: laps[name] for name in ("finish_rate", "median_lap_s", "best_lap_s")}


def done(work: Path, name: str, step: Callable[[], None], results: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """CPU seconds of a step, and its results; nothing is done again that ``steps.json`` has."""
    path = work / "steps.json"
    steps: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    if name not in steps:
        begin = time.process_time()
        step()
        steps[name] = {"cpu_s": round(time.process_time() - begin, 1), **results()}
        path.write_text(json.dumps(steps))
        print(f"{work.name}, {name}: {steps[name]}", flush=True)
    return steps[name]


def run(seed: int, laps: Path, work: Path, *, driver: str) -> dict[str, Any]:
    """CPU seconds and results of all steps of a seed."""
    work.mkdir(exist_ok=True)
    found: dict[str, Any] = {}
    data = [laps]
    for number, settings in enumerate(RUNS, 1):
        folder, before = work / f"run{number}", work / f"run{number - 1}"
        if number > 1:
            name = f"corrected{number - 1}"
            words = [*CORRECTIONS[number - 2], "--driver", driver, "--student", before, "--out", work / name]
            step = partial(record, *words, "--seed", 10 * (number - 1) + seed)
            found[name] = done(work, name, step, dict)
            data = [*data, work / name]
        start = [f"warm_start={{source: '{before}'}}"] if number > 1 else []
        step = partial(learn, folder, [f"seed={seed}", *settings, *start], data)
        found[folder.name] = done(work, folder.name, step, partial(drives, folder))
    found["from_rest"] = done(work, "from_rest", lambda: None, partial(drives, folder, starts=Starts(jitter_m=0.05)))
    return found


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=("author", "record"), default="author")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, help="keep laps and runs in this folder")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    driver = arguments.driver
    path = RESULTS / ("clones.json" if driver == "author" else f"clones_{driver}.json")
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        words = [*LAPS, "--driver", driver, "--out", work / "laps"]
        laps_cpu_s = done(work, "laps", partial(record, *words), dict)["cpu_s"]
        settings = {"driver": driver, "laps": LAPS, "corrections": CORRECTIONS, "clone": CLONE, "runs": RUNS}
        before = json.loads(path.read_text()) if path.exists() else {}
        runs: dict[str, Any] = before["runs"] if before.get("settings") == settings else {}
        for seed in arguments.seeds:
            runs[str(seed)] = run(seed, work / "laps", work / f"seed{seed}", driver=driver)
            if arguments.write:
                facts = {**describe_run(device="cpu"), "settings": settings, "laps_cpu_s": laps_cpu_s, "runs": runs}
                write_results(path.stem, facts)


if __name__ == "__main__":
    main()
