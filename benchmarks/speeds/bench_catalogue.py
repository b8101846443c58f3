"""Updates per CPU second of every network in the catalogue, docs/networks.md.

    python benchmarks/speeds/bench_catalogue.py            # some minutes
    python benchmarks/speeds/bench_catalogue.py --write    # and keep benchmarks/results/catalogue_cpu.json

An update draws 128 transitions of a short drive, or 16 sequences of 20 steps after 10 that warm the memory up, and
learns from them in float32 on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.pages.networks import CATALOGUE_SPEEDS, STACKS, overrides_of
from benchmarks.results_file import add_results_argument, describe_run, write_results
from benchmarks.speeds.bench_network import seconds_of
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.malloc import keep_freed_memory

TRANSITIONS = {"learning_starts": 0, "capacity": 4_000, "batch_size": 128, "held_out_share": 0.0}
SEQUENCES = {"learning_starts": 0, "capacity": 4_000, "batch_size": 16, "length": 20, "burn_in": 10}
NUM_CARS, NUM_STEPS = 16, 64
WARM_UP = 2


def updates_per_second(settings: str, *, rounds: int) -> float:
    """The median rate of a network's updates.

    Args:
        settings: What makes the network, as on a command line.
        rounds: How many updates to time.
    """
    composed = compose_settings(overrides_of(settings))
    is_sequences = composed["replay"]["_target_"].endswith("Sequences")
    composed["replay"] |= SEQUENCES if is_sequences else TRANSITIONS
    composed["env"] |= {"num_envs": NUM_CARS}
    composed["precision"] = "float32"
    torch.manual_seed(0)
    task = make_task(composed)
    algorithm: Any = make_algorithm(composed, task)
    env = task.make_env(num_envs=NUM_CARS)
    with torch.no_grad():
        algorithm.memory.extend(env.rollout(NUM_STEPS, algorithm.policy, break_when_any_done=False))
    env.close()
    algorithm.learner.learning_rate = 1e-5

    def update() -> None:
        algorithm.learner.update(algorithm.memory.sample())

    seconds = [seconds_of(update, device="cpu") for _ in range(WARM_UP + rounds)]
    return float(f"{1 / statistics.median(seconds[WARM_UP:]):.3g}")


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="keep the results")
    add_results_argument(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as train() does
    shown = Table("network", "updates per CPU second")
    found: dict[str, float] = {}
    for name, settings in itertools.chain.from_iterable(STACKS.values()):
        found[settings] = updates_per_second(settings, rounds=arguments.rounds)
        shown.add_row(name, f"{found[settings]:g}")
    Console().print(shown)
    if arguments.write:
        results = {**describe_run(device="cpu"), "updates_per_cpu_s": found}
        print("wrote", write_results(CATALOGUE_SPEEDS, results, folder=arguments.results))


if __name__ == "__main__":
    main()
