"""Does memory find what is hidden? CartPole-v1 without velocities, to 475 within 100,000 frames, with each core.

    python benchmarks/studies/memory.py --seeds 5 --write

All networks are of one size and make one update for ten frames, from 160 steps. Seeds that are in the results file
already are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import RESULTS, describe_run, write_results
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.trainers import train

TARGET = 475
COMMON = ["experiment=r2d2_iqn", "device=cpu", "precision=float32", "log.tensorboard=false"]
FEEDFORWARD = [  # the same without sequences
    "experiment=cartpole_iqn",
    *COMMON[1:],
    "total_frames=100_000",
    "learning_rate=1.0e-3",
    "target_update.tau=0.02",
    "replay=prioritized",
    "replay.prioritized={alpha: 0.9, beta: 0.6}",
    "replay.capacity=100_000",
    "replay.num_steps=3",
    "replay.batch_size=160",
    "evaluation.every_frames=2_048",
    "log.every_frames=2_048",
]
STACK = "{_target_: torchrl.envs.transforms.CatFrames, _partial_: true, N: 4, dim: -1, in_keys: [observation]}"
CORE = "objective.network.core={{_target_: tm_torchrl.modules.{}, _partial_: true, hidden_size: 64}}"
ARMS = {
    "GRU": [*COMMON, CORE.format("GRU")],
    "none": [*FEEDFORWARD, "env.floats=[0,2]"],
    "last 4 observations": [*FEEDFORWARD, f"env.transforms=[{STACK}]", "env.floats=[0,2,4,6,8,10,12,14]"],
    "LSTM": [*COMMON, CORE.format("LSTM")],
    "Mamba": [*COMMON, CORE.format("Mamba")],
}


def measure(settings: list[str], *, seed: int) -> dict[str, Any]:
    """Frames until the target was reached (``None`` if it was not), the best and the last mean return."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train([*settings, f"seed={seed}"], folder=run, is_quiet=True)
        rows = read_evaluations(run)
    returns = [row["return_mean"] for row in rows]
    solved = next((row["frames"] for row in rows if row["return_mean"] >= TARGET), None)
    return {"frames_to_target": solved, "best_return": max(returns), "last_return": returns[-1]}


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="all by default")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "memory.json"
    old: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
    runs: dict[str, dict[str, Any]] = {arm: old.get(arm, {}) for arm in ARMS}
    for seed in range(arguments.seeds):
        for arm in arguments.arms:
            if str(seed) not in runs[arm]:
                runs[arm][str(seed)] = measure(ARMS[arm], seed=seed)
                if arguments.write:
                    write_results(path.stem, {**describe_run(device="cpu"), "runs": runs})
    table = Table("memory", "reached 475", "frames of each", "best return of each", title="CartPole-v1, no velocities")
    for arm, found in runs.items():
        rows = list(found.values())
        solved = [row["frames_to_target"] for row in rows]
        shown = ["-" if frames is None else f"{frames:,}" for frames in solved]
        best = " ".join(f"{row['best_return']:.0f}" for row in rows)
        table.add_row(arm, f"{sum(x is not None for x in solved)} of {len(rows)}", " ".join(shown), best)
    Console().print(table)


if __name__ == "__main__":
    main()
