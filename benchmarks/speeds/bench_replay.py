"""Speed of replay: draws and updates of priorities, writing, sampling; one thread.

    python benchmarks/speeds/bench_replay.py              # prints a table, about a minute on one core
    python benchmarks/speeds/bench_replay.py --write      # and writes benchmarks/results/replay_cpu.json

Times are medians of milliseconds of CPU. Transitions are 184 floats at both ends, action, reward and flags.
``bench_frame_store.py`` measures frames, ``bench_saving.py`` saving.
TorchRL's compiled trees are measured beside ours, alternated, where they load.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer

from benchmarks.results_file import describe_run, write_results
from tm_torchrl.data import PrioritizedSampler, make_replay_buffer
from tm_torchrl.data.storage.prioritized_sampler import SumSegmentTreeFp64

NUM_FLOATS, NUM_DRAWS, BATCHES, ALPHA, BETA = 184, 512, (32, 512, 4096), 0.6, 0.4
STORAGES = ("memory", "memmap")
KINDS = {
    f"{kind}, {storage}": (kind == "prioritised", storage)
    for storage in STORAGES
    for kind in ("uniform", "prioritised")
}


def median_ms(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median milliseconds of CPU of each call, all alternated."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def transitions(num: int) -> TensorDict:
    """Transitions of noise."""
    flags = {name: torch.zeros(num, 1, dtype=torch.bool) for name in ("done", "terminated", "truncated")}
    following = {"observation": torch.randn(num, NUM_FLOATS), "reward": torch.randn(num, 1), **flags}
    return TensorDict(
        {"observation": torch.randn(num, NUM_FLOATS), "action": torch.randint(12, (num,)), "next": following}, [num]
    )


def trees(capacity: int, rounds: int) -> dict[str, float]:
    """Draws and updates of the sampler alone, over each tree that loads."""
    storage = LazyTensorStorage(capacity)
    storage.set(torch.arange(capacity), TensorDict({"x": torch.zeros(capacity)}, [capacity]))
    calls: dict[str, Callable[[], Any]] = {}
    index, priority = torch.randint(capacity, (NUM_DRAWS,)), torch.rand(NUM_DRAWS)
    for compiled in (False, True) if SumSegmentTreeFp64 is not None else (False,):
        sampler = PrioritizedSampler(capacity, ALPHA, BETA, compiled=compiled)
        sampler.update_priority(torch.arange(capacity), torch.rand(capacity))
        calls[f"{NUM_DRAWS} draws, {sampler.tree}"] = lambda sampler=sampler: sampler.sample(storage, NUM_DRAWS)
        calls[f"{NUM_DRAWS} updates, {sampler.tree}"] = lambda sampler=sampler: sampler.update_priority(index, priority)
    return median_ms(calls, rounds)


def empty(kind: str, capacity: int) -> ReplayBuffer:
    """A buffer of one of ``KINDS``."""
    prioritized, storage = KINDS[kind]
    return make_replay_buffer(
        capacity=capacity,
        batch_size=NUM_DRAWS,
        prioritized=prioritized,
        alpha=ALPHA,
        beta=BETA,
        storage=storage,
        seed=0,
    )


def filled(kind: str, capacity: int) -> ReplayBuffer:
    """A full buffer of one of ``KINDS``."""
    buffer, chunk = empty(kind, capacity), transitions(2000)
    while len(buffer) < capacity:
        buffer.extend(chunk[: capacity - len(buffer)])
    return buffer


def bytes_per_transition(buffer: ReplayBuffer) -> float:
    """Bytes of a stored transition."""
    return sum(value.nbytes for value in buffer.storage[:].values(True, True)) / len(buffer)


def whole_buffer(kind: str, capacity: int, rounds: int) -> dict[str, float]:
    """Writing, sampling and priorities of one kind of buffer."""
    buffer = filled(kind, capacity)
    few, many = transitions(16), transitions(2048)
    calls: dict[str, Callable[[], Any]] = {
        "extend 16": lambda: buffer.extend(few),
        "extend 2048": lambda: buffer.extend(many),
    }
    for batch in BATCHES:
        # The buffer's own draw: its sample() warns where the batch size is another than the constructor's.
        calls[f"sample {batch}"] = lambda batch=batch: buffer._sample(batch)
    if KINDS[kind][0]:
        sample = buffer.sample().set("td_error", torch.rand(NUM_DRAWS, 1))
        calls[f"update {NUM_DRAWS}"] = lambda: buffer.update_tensordict_priority(sample)
    results = {f"{name} (ms)": value for name, value in median_ms(calls, rounds).items()}
    results["bytes per transition"] = bytes_per_transition(buffer)
    return results


def main() -> None:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=200_000, help="of the trees")
    parser.add_argument("--stored", type=int, default=50_000, help="transitions of the buffers that are filled")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/replay_cpu.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = {
        "trees_ms": trees(args.capacity, args.rounds),
        "buffers": {kind: whole_buffer(kind, args.stored, args.rounds) for kind in KINDS},
    }
    print(table(results))
    if args.write:
        facts = {"capacity": args.capacity, "stored": args.stored, "num_floats": NUM_FLOATS}
        print(f"wrote {write_results('replay_cpu', {**describe_run(device='cpu'), **facts, **results})}")


def table(results: dict[str, Any]) -> str:
    """The results as lines of text, with a column for each kind of buffer."""
    lines = [f"{name:48}{value:10.3f} ms" for name, value in results["trees_ms"].items()]
    buffers = results["buffers"]
    names = list(dict.fromkeys(name for columns in buffers.values() for name in columns))
    lines += ["", " " * 24 + "".join(f"{kind:>22}" for kind in buffers)]
    for name in names:
        cells = (f"{columns[name]:.3f}" if name in columns else "" for columns in buffers.values())
        lines.append(f"{name:24}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
