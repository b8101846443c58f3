"""Does memory find what is hidden? Tasks without velocities: each core, the last four observations, neither of them.

    python benchmarks/studies/memory.py --task cartpole --seeds 5 --write
    python benchmarks/studies/memory.py --task acrobot --seeds 5 --write
    python benchmarks/studies/memory.py --task drive --seeds 3 --write

CartPole-v1 by R2D2 (``experiment=r2d2_iqn``): all networks are of one size and make one update for ten frames, from 160
steps. Acrobot-v1 and LunarLander-v3 (needs Box2D) by PPO, with the settings of ``ppo_seeds.py``. The default track by
``experiment=short_drive``, in 240,000 frames; velocity, rotation, gear, engine, wheels that slide and dampers are
hidden. Seeds that are in the results file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import RESULTS, describe_run, write_results
from benchmarks.studies.ppo_seeds import TASKS as POLICIES
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.trainers import train

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
NONE, LAST_FOUR = "none", "last 4 observations"
CORES = {kind: CORE.format(kind) for kind in ("GRU", "LSTM", "Mamba")}


def by_policy(task: str, *, size: int, positions: list[int], frames: int) -> dict[str, list[str]]:
    """Settings of each arm for a task of gymnasium with ``size`` floats, of which the network sees ``positions``."""
    common = [*POLICIES[task], f"total_frames={frames}", "device=cpu", "log.tensorboard=false"]
    hidden = f"env.floats={positions}"
    stacked = f"env.floats={[size * step + position for step in range(4) for position in positions]}"
    cores = {name: [*common, hidden, core] for name, core in CORES.items()}
    return {NONE: [*common, hidden], LAST_FOUR: [*common, f"env.transforms=[{STACK}]", stacked], **cores}


SEEN = "env.floats=[previous_actions,wheel_has_contact,wheel_material,up,zones_ahead,margin_to_finish,is_freewheeling]"
DRIVE = [
    *("experiment=short_drive", "total_frames=240_000", "evaluation.every_frames=20_480", "device=cpu"),
    *("log.tensorboard=false", "precision=float32"),
]
RECURRENT = [*DRIVE, "replay=sequences"]
TASKS = {
    "cartpole": {
        NONE: [*FEEDFORWARD, "env.floats=[0,2]"],
        LAST_FOUR: [*FEEDFORWARD, f"env.transforms=[{STACK}]", "env.floats=[0,2,4,6,8,10,12,14]"],
        **{name: [*COMMON, core] for name, core in CORES.items()},
    },
    "acrobot": by_policy("acrobot", size=6, positions=[0, 1, 2, 3], frames=400_000),
    "lunarlander": by_policy("lunarlander", size=8, positions=[0, 1, 4, 6, 7], frames=600_000),
    "drive": {
        NONE: [*DRIVE, SEEN],
        LAST_FOUR: [*DRIVE, f"env.transforms=[{STACK}]", SEEN],
        **{name: [*RECURRENT, f"objective.network.core={name.lower()}", SEEN] for name in CORES},
        "GRU, nothing hidden": [*RECURRENT, "objective.network.core=gru"],
    },
}
TARGETS = {"cartpole": 475.0, "acrobot": -90.0, "lunarlander": 200.0}
RESULT = {task: "memory" if task == "cartpole" else f"memory_{task}" for task in TASKS}


def measure(settings: list[str], *, seed: int, target: float | None) -> dict[str, Any]:
    """Frames until the target was reached (``None`` if it was not), the best and the last mean return; or laps."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train([*settings, f"seed={seed}"], folder=run, is_quiet=True)
        rows = read_evaluations(run)
    if target is None:
        return {name: [row[name] for row in rows] for name in ("frames", "cpu_s", "finish_rate", "median_lap_s")}
    returns = [row["return_mean"] for row in rows]
    solved = next((row["frames"] for row in rows if row["return_mean"] >= target), None)
    return {"frames_to_target": solved, "best_return": max(returns), "last_return": returns[-1]}


def table_of_returns(runs: dict[str, dict[str, Any]], *, target: float) -> Table:
    """A row for each arm."""
    table = Table("memory", f"reached {target:.0f}", "frames of each", "best return of each")
    for arm, found in runs.items():
        rows = list(found.values())
        solved = [row["frames_to_target"] for row in rows]
        shown = ["-" if frames is None else f"{frames:,}" for frames in solved]
        best = " ".join(f"{row['best_return']:.0f}" for row in rows)
        table.add_row(arm, f"{sum(x is not None for x in solved)} of {len(rows)}", " ".join(shown), best)
    return table


def table_of_laps(runs: dict[str, dict[str, Any]]) -> Table:
    """A row for each arm."""
    table = Table("memory", "finished, last quarter", "best median lap of each, s", "CPU s")
    for arm, found in runs.items():
        shares, laps = [], []
        for run in found.values():
            late = [rate for frames, rate in zip(run["frames"], run["finish_rate"], strict=True) if frames > 180_000]
            shares.append(f"{statistics.mean(late):.0%}")
            laps.append(min((lap for lap in run["median_lap_s"] if lap), default=None))
        shown = " ".join("-" if lap is None else f"{lap:.1f}" for lap in laps)
        cpu = " ".join(f"{run['cpu_s'][-1]:.0f}" for run in found.values())
        table.add_row(arm, " ".join(shares), shown, cpu)
    return table


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="cartpole")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=TASKS["drive"], help="all by default")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arms, target = TASKS[arguments.task], TARGETS.get(arguments.task)
    path = RESULTS / f"{RESULT[arguments.task]}.json"
    mine: dict[str, dict[str, Any]] = {arm: {} for arm in arms}

    def all_runs() -> dict[str, dict[str, Any]]:
        """With those in the file, which another process may have written."""
        old = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
        return {arm: old.get(arm, {}) | mine[arm] for arm in arms}

    for seed in range(arguments.seeds):
        for arm in arguments.arms or arms:
            if str(seed) not in all_runs()[arm]:
                mine[arm][str(seed)] = found = measure(arms[arm], seed=seed, target=target)
                print(f"{arm}, seed {seed}: {found}", flush=True)
                if arguments.write:
                    write_results(path.stem, {**describe_run(device="cpu"), "settings": arms, "runs": all_runs()})
    runs = all_runs()
    Console().print(table_of_laps(runs) if target is None else table_of_returns(runs, target=target))


if __name__ == "__main__":
    main()
