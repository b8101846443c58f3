"""What a replay of embeddings saves beside one of frames, for networks whose vision part is frozen: memory and time.

    python benchmarks/speeds/bench_embeddings.py --write

An update is what training does for one: 16 transitions are stored (each is learnt from 8 times, in batches of 128),
which costs their embedding; a batch is drawn; the learner learns from it. All in turn on one thread, in CPU seconds.
Transitions are of drives in the simulator with images of 64 x 64 pixels and 184 floats.
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
from tensordict import TensorDict

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import add_results_argument, describe_run, write_results
from benchmarks.speeds.bench_network import run_in_turn
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.malloc import keep_freed_memory

NETWORKS = ("classic", "impala", "vit", "unified")
STORAGES = ("frames", "embeddings")
NUM_CARS = 16
NUM_STEPS = 64


class Training:
    """A learner and its replay, which holds a thousand transitions of real drives."""

    def __init__(self, network: str, storage: str) -> None:
        torch.manual_seed(0)
        frozen = ["objective.network.frozen=[vision]", f"replay.storage={storage}", "replay.batch_size=128"]
        frozen += ["replay.learning_starts=0", "replay.capacity=4000", "precision=float32"]
        task_settings = ["env.pixels=true", "env.track=oval", f"env.num_envs={NUM_CARS}"]
        settings = compose_settings([f"network={network}", *task_settings, *frozen])
        task = make_task(settings)
        self.algorithm: Any = make_algorithm(settings, task)
        env = task.make_env(num_envs=NUM_CARS)
        with torch.no_grad():
            steps = env.rollout(NUM_STEPS, self.algorithm.policy, break_when_any_done=False)
        env.close()
        self.algorithm.memory.extend(steps)
        self.algorithm.learner.learning_rate = 1e-5
        self.steps = itertools.cycle([steps[:, time : time + 1] for time in range(NUM_STEPS)])

    def bytes_per_transition(self) -> float:
        """What the transitions take, without what is only reserved."""
        state = TensorDict(self.algorithm.memory.buffer.storage._state())
        kept = sum(state[part].bytes(count_duplicates=True) for part in ("records", "frames"))
        return kept / len(self.algorithm.memory)

    def update(self) -> None:
        """Store the transitions that pay for an update, and make it."""
        memory = self.algorithm.memory
        memory.extend(next(self.steps))
        self.algorithm.learner.update(memory.sample())


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="keep the results")
    add_results_argument(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as train() does
    table = Table("network", "storage", "bytes per transition", "updates per CPU second", "times as fast")
    found: dict[str, Any] = {}
    for network in NETWORKS:
        trainings = {storage: Training(network, storage) for storage in STORAGES}
        found[network] = {
            storage: {"bytes_per_transition": round(training.bytes_per_transition())}
            for storage, training in trainings.items()
        }
        updates = {storage: training.update for storage, training in trainings.items()}
        seconds = run_in_turn(updates, rounds=arguments.rounds, warm_up=2, device="cpu")
        for storage, each in seconds.items():
            found[network][storage]["updates_per_cpu_s"] = round(1 / statistics.median(each), 2)
        ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
        found[network]["times_as_fast"] = round(statistics.median(ratios), 2)
        for storage in STORAGES:
            ratio = f"{found[network]['times_as_fast']}" if storage == "embeddings" else ""
            table.add_row(network, storage, *(f"{value}" for value in found[network][storage].values()), ratio)
    Console().print(table)
    if arguments.write:
        results = {**describe_run(device="cpu"), "networks": found}
        print("wrote", write_results("embeddings_cpu", results, folder=arguments.results))


if __name__ == "__main__":
    main()
