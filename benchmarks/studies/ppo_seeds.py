"""Do PPO, GRPO and DPO learn? Tasks of gymnasium, and laps of the default track, over seeds.

    python benchmarks/studies/ppo_seeds.py --task cartpole --seeds 5 --write
    python benchmarks/studies/ppo_seeds.py --task drive --seeds 5 --write
    python benchmarks/studies/ppo_seeds.py --task cartpole_grpo --seeds 5 --write

Each run is evaluated greedily. It ends when 20 episodes have a mean of 475 in CartPole-v1 (at most 100,000 frames),
-90 in Acrobot-v1, or 200 in LunarLander-v3, which needs Box2D (at most a million frames each); on the track when 95 of
100 laps finish, or after ten minutes. Seeds that are in the results file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import RESULTS, describe_run, write_results
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.trainers import train

DRIVE = [
    "collector=single",
    "max_minutes=10",
    "evaluation.every_frames=51_200",
    "evaluation.target_score=0.95",
]
EQUAL_FRAMES = "total_frames=409_600"  # a little more than the slowest seed of PPO needs
GYM = [
    *("experiment=cartpole_ppo", "env.num_envs=16", "total_frames=1_000_000", "learning_rate=3.0e-4"),
    *("algorithm.clip=0.2", "rollouts.num_epochs=4", "rollouts.minibatch_size=64", "collector.frames_per_batch=512"),
    *("evaluation.every_frames=20_480", "log.every_frames=20_480"),
]
TASKS = {
    "cartpole": ["experiment=cartpole_ppo"],
    # Steps, epochs, minibatches, gamma, lambda and entropy of RL Baselines3 Zoo (November 2026).
    "acrobot": [
        *(*GYM, "env.name=Acrobot-v1", "rollouts.frames_per_update=4_096", "rollouts.gae_lambda=0.94", "gamma=0.99"),
        "evaluation.target_score=-90",
    ],
    "lunarlander": [
        *(*GYM, "env.name=LunarLander-v3", "rollouts.frames_per_update=16_384", "rollouts.gae_lambda=0.98"),
        *("gamma=0.999", "algorithm.entropy_coefficient=0.01", "evaluation.target_score=200"),
    ],
    "cartpole_grpo": ["experiment=cartpole_grpo"],
    "cartpole_dpo": ["experiment=cartpole_dpo"],
    "cartpole_mixed": ["experiment=cartpole_grpo", "algorithm.starts=mixed"],
    "drive": ["algorithm=ppo", *DRIVE],
    "drive_grpo": ["algorithm=grpo", *DRIVE, EQUAL_FRAMES],
    "drive_dpo": ["algorithm=dpo", *DRIVE, EQUAL_FRAMES],
    # Imitates the better episode of each pair; with this temperature the preference hardly counts.
    "drive_winners": [
        "algorithm=dpo",
        "algorithm.temperature=1e-6",
        "algorithm.cloning_coefficient=1.0",
        *DRIVE,
        EQUAL_FRAMES,
    ],
    "drive_mixed": ["algorithm=grpo", "algorithm.starts=mixed", *DRIVE, EQUAL_FRAMES],
}


GOOD_RETURN = {"acrobot": -90.0, "lunarlander": 200.0}  # else 475


def run(task: str, seed: int) -> dict[str, Any]:
    """Frames, minutes and CPU seconds until the task was solved first, and the last evaluation."""
    settings = [*TASKS[task], f"seed={seed}", "log.tensorboard=false"]
    with tempfile.TemporaryDirectory() as folder, mock.patch("tm_torchrl.trainers.run.write_report"):
        train(settings, folder=Path(folder) / "run", is_quiet=True)
        rows = read_evaluations(Path(folder) / "run")
    least = GOOD_RETURN.get(task, 475.0)
    good = [row for row in rows if row.get("return_mean", -math.inf) >= least or row.get("finish_rate", 0.0) >= 0.95]
    names = ("return_mean", "finish_rate", "best_lap_s", "median_lap_s", "frames")
    found: dict[str, Any] = {f"last_{name}": rows[-1][name] for name in names if name in rows[-1]}
    if good:
        first = good[0]
        found |= {"solved_frames": first["frames"], "solved_minutes": round(first["seconds"] / 60, 2)}
        found["solved_cpu_s"] = round(first["cpu_s"], 1)
    laps = [row for row in rows if row.get("finish_rate", 0.0) > 0]
    if laps:
        found |= {"first_lap_frames": laps[0]["frames"], "first_lap_minutes": round(laps[0]["seconds"] / 60, 2)}
    return found


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(TASKS), default="cartpole")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    path = RESULTS / f"ppo_{arguments.task}.json"
    runs: dict[str, Any] = json.loads(path.read_text())["runs"] if path.exists() else {}
    for seed in map(str, range(arguments.seeds)):
        if seed not in runs:
            runs[seed] = run(arguments.task, int(seed))
            if arguments.write:
                write_results(
                    path.stem, {**describe_run(device="cpu"), "settings": TASKS[arguments.task], "runs": runs}
                )
        print(f"seed {seed}: {runs[seed]}", flush=True)
    solved = [found["solved_frames"] for found in runs.values() if "solved_frames" in found]
    median = f"; median {statistics.median(solved):,.0f} frames" if solved else ""
    print(f"{arguments.task}: {len(solved)} of {len(runs)} seeds solved{median}")


if __name__ == "__main__":
    main()
