"""DPO from a file of pairs against cloning of the preferred segments alone: equal pairs, over seeds.

    python benchmarks/studies/preferences.py --seeds 5 --write

A policy that was cloned briefly drives pairs of segments: two samples of it from each of many equal starts along the
default track. Both arms begin with that policy and learn from the same pairs equally long. Seeds that are in the
results file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import RESULTS, describe_run, write_results
from tm_torchrl.agents import load_agent
from tm_torchrl.commands import pairs as pairs_command
from tm_torchrl.commands import record as record_command
from tm_torchrl.trainers import train

LAPS_TO_CLONE = 60
CLONE = ["algorithm=cloning", "objective=policy", "total_frames=500_000"]
PAIRS = ["--starts", "anywhere", "--steps", "60", "--disturbed", "0", "--laps", "1000"]
LEARN = ["algorithm=dpo_recorded", "total_frames=122_880"]  # each pair about once
ARMS = {
    "DPO": [],
    # With this temperature the preference hardly counts, and only the preferred segment is imitated.
    "cloning of the preferred segments": ["algorithm.temperature=1e-6", "algorithm.cloning_coefficient=1.0"],
}
QUIET = ["log.tensorboard=false", "evaluation.every_frames=1_000_000_000", "evaluation.num=1"]
NUM_LAPS = 100


def run_command(module: Any, *words: object) -> None:
    """Run a command of ``tm-torchrl`` in this process."""
    with mock.patch.object(sys, "argv", [module.__name__, *map(str, words)]):
        module.main()


def driven(run: Path) -> dict[str, Any]:
    """Finish rate and lap times of the last network of a run."""
    (row,) = load_agent(run, which="latest").evaluate(laps=NUM_LAPS, seed=1)
    return {name: row[name] for name in ("finish_rate", "median_lap_s", "best_lap_s")}


def trained(settings: list[str], folder: Path) -> dict[str, Any]:
    """Train, and say how the network drives and how many CPU seconds training took."""
    begin = time.process_time()
    with mock.patch("tm_torchrl.trainers.run.write_report"):
        train([*settings, *QUIET], folder=folder, is_quiet=True)
    return {"cpu_s": round(time.process_time() - begin, 1), **driven(folder)}


def clone(work: Path) -> dict[str, Any]:
    """Clone the policy that all seeds begin with."""
    run_command(record_command, "hillside", "--laps", LAPS_TO_CLONE, "--out", work / "laps")
    return trained([*CLONE, f"data='{work / 'laps'}'"], work / "clone")


def run(seed: int, work: Path, arms: list[str]) -> dict[str, Any]:
    """Pairs of a seed, and what each arm makes of them."""
    begin = time.process_time()
    for number in (1, 2):
        words = ("--driver", work / "clone", *PAIRS, "--seed", seed, "--sampled", number)
        run_command(record_command, "hillside", *words, "--out", work / f"{seed}_{number}")
    file = work / f"pairs_{seed}.jsonl"
    run_command(pairs_command, work / f"{seed}_1", work / f"{seed}_2", "--out", file)
    found: dict[str, Any] = {
        "pairs": len(file.read_text().splitlines()),
        "pairs_cpu_s": round(time.process_time() - begin, 1),
    }
    for arm in arms:
        start = [f"data='{file}'", f"warm_start={{source: '{work / 'clone'}'}}", f"seed={seed}"]
        found[arm] = trained([*LEARN, *ARMS[arm], *start], work / f"{arm}_{seed}".replace(" ", "_"))
        print(f"seed {seed}, {arm}: {found[arm]}", flush=True)
    return found


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="keep laps and runs in this folder, and use a clone that is there")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    path = RESULTS / "preferences.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    runs: dict[str, Any] = before.get("runs", {})
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        cloned = driven(work / "clone") if (work / "clone").exists() else clone(work)
        print(f"the cloned policy: {cloned}", flush=True)
        for seed in range(arguments.seeds):
            if str(seed) not in runs:
                runs[str(seed)] = run(seed, work, list(ARMS))
                if arguments.write:
                    settings = {"clone": CLONE, "pairs": PAIRS, "learn": LEARN, "arms": ARMS}
                    facts = {**describe_run(device="cpu"), "settings": settings, "clone": cloned, "runs": runs}
                    write_results(path.stem, facts)


if __name__ == "__main__":
    main()
