"""Duration of one BTR update, and the share of spectral norm, noisy layers and Munchausen targets in it.

    python benchmarks/speeds/bench_network.py            # prints tables; --write keeps them, --device cuda

Networks, loss and optimiser are built from ``experiment=btr`` by the trainer's own builders; an update is the
trainer's: passes through the network, loss, backward pass, clipping, Adam's step, target network. Batches are steps of
random actions in the simulator and lie ready. Everything of a group is run in turn in one process; on a CPU on one
thread, in CPU seconds. A cost is the median over rounds of the ratio of two updates that ran one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tensordict import TensorDict

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import add_results_argument, describe_run, write_results
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.algorithms.transitions import random_transitions
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.malloc import keep_freed_memory

EXPERIMENT = "experiment=btr"
Update = Callable[[], object]

# Changes with and without a part, and the largest accepted ratio of the times.
COSTS: dict[str, tuple[Sequence[str], Sequence[str], float]] = {
    "spectral norm": ([], ["objective.network.image.spectral_norm=null"], 1.15),
    "noisy layers": ([], ["exploration=epsilon", "objective.network.linear=linear"], 1.10),
    "Munchausen, online policy": ([], ["estimator=double"], 1.10),
    "Munchausen, target policy (the paper's)": (["estimator.policy_from=target"], ["estimator=double"], 1.10),
}


def make_update(
    overrides: Sequence[str],
    *,
    batch_size: int,
    precision: str = "float32",
    compiled: bool | str = False,
    channels_last: bool = False,
    device: str = "cpu",
) -> Update:
    """A function that makes one update of the trainer's learner."""
    torch.manual_seed(0)
    settings = compose_settings([EXPERIMENT, *overrides])
    settings["learner"]["compile"] = compiled
    task = make_task(settings)
    algorithm = make_algorithm({**settings, "precision": precision}, task, device=device)
    if channels_last:
        algorithm.learner.loss.to(memory_format=torch.channels_last)
    learner = algorithm.learner
    learner.learning_rate = 1e-5  # the batch is always the same
    batch = transitions(task, size=batch_size, num_steps=settings["replay"]["num_steps"], device=device)
    return lambda: learner.update(batch.clone(False))  # it writes priorities


def transitions(task: Any, *, size: int, num_steps: int, device: str) -> TensorDict:
    """Transitions as a prioritised replay of n-step returns samples them."""
    batch = random_transitions(task, size=size, device=torch.device(device))
    batch["steps_to_next_obs"] = torch.full((size, 1), num_steps, device=device)
    batch["priority_weight"] = torch.ones(size, device=device)
    return batch


def seconds_of(update: Update, *, device: str) -> float:
    """CPU seconds of one update; on CUDA wall-clock seconds until the device is done."""
    if device == "cpu":
        begin = time.process_time()
        update()
        return time.process_time() - begin
    torch.cuda.synchronize()
    begin = time.perf_counter()
    update()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def run_in_turn(updates: Mapping[str, Update], *, rounds: int, warm_up: int, device: str) -> dict[str, list[float]]:
    """Seconds of each update in each round, after a warm-up."""
    for update in updates.values():
        for _ in range(warm_up):
            update()
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(rounds):
        for name, update in updates.items():
            seconds[name].append(seconds_of(update, device=device))
    return seconds


def ways(device: str, *, batch_size: int) -> dict[str, dict[str, Any]]:
    """Options of ``make_update`` for each way to run the same update."""
    both: dict[str, dict[str, Any]] = {}
    for name, precision in (("fp32", "float32"), ("bf16", "bfloat16")):
        base = {"batch_size": batch_size, "precision": precision, "device": device}
        both[name] = base
        both[f"{name}, compiled"] = {**base, "compiled": True}
        if device != "cpu":
            both[f"{name}, channels_last"] = {**base, "channels_last": True}
            both[f"{name}, CUDA graphs"] = {**base, "compiled": "reduce-overhead"}
            both[f"{name}, CUDA graphs, channels_last"] = {**base, "compiled": "reduce-overhead", "channels_last": True}
    return both


def bench_updates(batch_size: int, *, rounds: int, device: str, is_eager: bool) -> dict[str, dict[str, float]]:
    """Milliseconds of one update in each way; on CUDA also the most memory that it took."""
    torch.compiler.reset()
    chosen = {
        name: way for name, way in ways(device, batch_size=batch_size).items() if not (is_eager and way.get("compiled"))
    }
    updates, memory = {}, {}
    for name, way in chosen.items():
        updates[name] = make_update([], **way)
        if device != "cpu":
            memory[name] = peak_mb(updates[name])
    seconds = run_in_turn(updates, rounds=rounds, warm_up=2, device=device)
    found = {name: {"ms": round(statistics.median(values) * 1e3, 1)} for name, values in seconds.items()}
    return {name: {**row, **({"peak_mb": memory[name]} if name in memory else {})} for name, row in found.items()}


def peak_mb(update: Update) -> float:
    """Peak device memory of three updates beyond what was in use before them."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        update()
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)


def bench_cost(
    name: str, *, batch_size: int, precision: str, rounds: int, device: str
) -> dict[str, float | list[float]]:
    """How many times as long an update takes with a part as without it."""
    with_it, without, asked = COSTS[name]
    options: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "device": device}
    updates = {"with": make_update(with_it, **options), "without": make_update(without, **options)}
    seconds = run_in_turn(updates, rounds=rounds, warm_up=2, device=device)
    ratios = sorted(a / b for a, b in zip(seconds["with"], seconds["without"], strict=True))
    middle = statistics.median(ratios)
    return {"ratio": round(middle, 3), "range": [round(ratios[0], 3), round(ratios[-1], 3)], "asked": asked}


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=5, help="of updates in turn (5)")
    parser.add_argument("--write", action="store_true", help="keep benchmarks/results/network_DEVICE.json")
    parser.add_argument("--eager", action="store_true", help="leave out what is compiled, which takes minutes")
    add_results_argument(parser)
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: this torch sees no CUDA device")
    torch.set_num_threads(1)
    keep_freed_memory()  # as train() does
    warnings.simplefilter("ignore")
    device, sizes = args.device.split(":")[0], (256, 512)
    results: dict[str, Any] = {**describe_run(device=args.device), "updates": {}, "costs": {}}
    console = Console()
    table = Table("batch", "way", "ms", "peak MB", title=f"One update of BTR, {results['machine']}")
    for size in sizes:
        found = bench_updates(size, rounds=args.rounds, device=device, is_eager=args.eager)
        results["updates"][f"B={size}"] = found
        for way, row in found.items():
            table.add_row(str(size), way, f"{row['ms']:.0f}", f"{row.get('peak_mb', '-')}")
    console.print(table)
    table = Table("part", "precision", "times as long", "range", "at most", title=f"With it and without, B={sizes[0]}")
    for name in COSTS:
        for label, precision in (("fp32", "float32"), ("bf16", "bfloat16")):
            cost = bench_cost(name, batch_size=sizes[0], precision=precision, rounds=args.rounds, device=device)
            results["costs"].setdefault(name, {})[label] = cost
            table.add_row(name, label, f"{cost['ratio']}", f"{cost['range']}", f"{cost['asked']}")
    console.print(table)
    if args.write:
        print("wrote", write_results(f"network_{device}", results, folder=args.results))


if __name__ == "__main__":
    main()
