"""What memory costs: updates per second with each core, and with none, on the same numbers of steps.

    python benchmarks/speeds/bench_memory.py --write

Batches of 640 steps: 32 sequences of 20, or 8 of 80, without a burn-in, of random drives in the simulator; IQN over the
floats with layers of 256. The network without memory learns from 640 transitions. All in turn, in CPU seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import add_results_argument, describe_run, write_results
from benchmarks.speeds.bench_network import Update, run_in_turn
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task

NUM_STEPS = 640
LENGTHS = (20, 80)
CORES = ("gru", "lstm", "mamba")
NUM_CARS = 16


def make_update(core: str | None, length: int) -> Update:
    """An update from one batch, which stays the same."""
    torch.manual_seed(0)
    memory = [f"replay.batch_size={NUM_STEPS}"]
    if core is not None:
        memory = ["replay=sequences", f"objective.network.core={core}", f"replay.batch_size={NUM_STEPS // length}"]
        memory += [f"replay.length={length}", "replay.burn_in=0"]
    settings = compose_settings(["env.track=oval", f"env.num_envs={NUM_CARS}", "precision=float32", *memory])
    task = make_task(settings)
    algorithm: Any = make_algorithm(settings, task)
    env = task.make_env(num_envs=NUM_CARS)
    with torch.no_grad():
        steps = env.rollout(3 * max(LENGTHS), algorithm.policy, break_when_any_done=False)
    env.close()
    algorithm.memory.extend(steps)
    algorithm.learner.learning_rate = 1e-5
    batch = algorithm.memory.sample()
    return lambda: algorithm.learner.update(batch.clone(False))


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="keep the results")
    add_results_argument(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    updates = {"none": make_update(None, 1)}
    updates |= {f"{core}, T={length}": make_update(core, length) for core in CORES for length in LENGTHS}
    seconds = run_in_turn(updates, rounds=arguments.rounds, warm_up=2, device="cpu")
    found = {name: {"updates_per_cpu_s": round(1 / statistics.median(each), 2)} for name, each in seconds.items()}
    for name, row in found.items():
        ratios = [one / none for one, none in zip(seconds[name], seconds["none"], strict=True)]
        row["times_as_long_as_none"] = round(statistics.median(ratios), 2)
    table = Table("core", "updates per CPU second", "times as long as none", title=f"batches of {NUM_STEPS} steps")
    for name, row in found.items():
        table.add_row(name, *(f"{value:.2f}" for value in row.values()))
    Console().print(table)
    if arguments.write:
        results = {**describe_run(device="cpu"), "cores": found}
        print("wrote", write_results("memory_cpu", results, folder=arguments.results))


if __name__ == "__main__":
    main()
