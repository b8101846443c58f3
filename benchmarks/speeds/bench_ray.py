"""What collection on Ray costs beside ``multi_async`` on one machine, and per batch for the model of many. On Linux.

    python benchmarks/speeds/bench_ray.py            # some minutes; needs the extra "ray"
    python benchmarks/speeds/bench_ray.py --write    # and keep benchmarks/results/ray_cpu.json

Two trainings of the default drive with equal settings take turns, one with each collector; workers whose training does
not have its turn stand still after one batch. CPU seconds are those of all processes: learner, workers, and Ray's own.
The costs are those of one request and one answer of a given size, without an environment, and of drawing a batch from
one buffer and from two shards.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.results_file import add_results_argument, describe_run, write_results
from tm_torchrl.collectors.on_ray.packing import Packed, packed, packed_batch, unpacked
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.loop import learn, store
from tm_torchrl.trainers.malloc import keep_freed_memory, resident_mb
from tm_torchrl.trainers.run import make_training

KINDS = ("multi_async", "ray")
SIZES = (10_000, 100_000, 1_000_000)  # bytes
TICK = os.sysconf("SC_CLK_TCK")


def cpu_s_of(pids: set[int]) -> float:
    """CPU seconds of processes so far."""
    total = 0.0
    for pid in pids:
        fields = stat_of(pid)
        total += (int(fields[11]) + int(fields[12])) / TICK if fields else 0.0
    return total


def stat_of(pid: int) -> list[str]:
    """The fields of a process's state behind its name; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def descendants() -> set[int]:
    """The processes that this one has started, and those that they have."""
    parents = {int(p.name): stat_of(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()}
    found, newest = set(), {os.getpid()}
    while newest:
        newest = {pid for pid, fields in parents.items() if fields and int(fields[1]) in newest}
        found |= newest
    return found


def resident_mb_of(pids: set[int]) -> float:
    """Memory of processes, without what they share."""
    total = 0
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/statm").read_text().split()
        except OSError:
            continue
        total += (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")
    return total / 2**20


class Side:
    """A training with one of the collectors, and what its turns have taken."""

    def __init__(self, kind: str, *, workers: int, frames_per_batch: int) -> None:
        self.before = descendants()
        self.name = kind
        settings = compose_settings(
            [
                f"collector={kind}",
                f"collector.num_workers={workers}",
                f"collector.frames_per_batch={frames_per_batch}",
                "precision=float32",
                "replay.learning_starts=5_000",
            ]
        )
        self.training = make_training(settings, make_task(settings), log=lambda message: print("   ", message))
        self.training.set_schedules()
        self.source = iter(self.training.source)
        self.turns: list[dict[str, float]] = []
        self.ages: list[float] = []
        self.memory_mb: list[float] = []
        self.collect(20)
        for each in (self.turns, self.ages, self.memory_mb):
            each.clear()
        self.processes = descendants() - self.before

    def collect(self, batches: int) -> None:
        """A turn: so many batches and the updates that are due."""
        t = self.training
        workers = descendants() - self.before if not self.turns else self.processes
        begin, own, theirs, frames = time.perf_counter(), time.process_time(), cpu_s_of(workers), t.frames
        learnt, stored = t.busy_s["learn"], 0.0
        for _ in range(batches):
            steps = next(self.source)
            stored -= time.process_time()
            store(t, steps)
            stored += time.process_time()
            learn(t)
        self.turns.append(
            {
                "frames": t.frames - frames,
                "seconds": time.perf_counter() - begin,
                "learner_cpu_s": time.process_time() - own,
                "other_cpu_s": cpu_s_of(workers) - theirs,
                "learn_s": t.busy_s["learn"] - learnt,
                "store_cpu_s": stored,
            }
        )
        found = t.source.metrics()
        if "weights_age" in found:
            self.ages.append(found["weights_age"])
        self.memory_mb.append(resident_mb_of(workers))

    def summary(self) -> dict[str, float]:
        """Medians over the turns."""

        def median(name: str) -> float:
            return statistics.median(turn[name] for turn in self.turns)

        cpu_s = [turn["learner_cpu_s"] + turn["other_cpu_s"] for turn in self.turns]
        rates = [turn["frames"] / spent for turn, spent in zip(self.turns, cpu_s, strict=True)]
        found = {
            "frames_per_cpu_s": round(statistics.median(rates)),
            "frames_per_s": round(statistics.median(turn["frames"] / turn["seconds"] for turn in self.turns)),
            "learner_cpu_share": round(median("learner_cpu_s") / statistics.median(cpu_s), 3),
            "learner_time_share": round(statistics.median(t["learn_s"] / t["seconds"] for t in self.turns), 3),
            "frames_per_worker_cpu_s": round(statistics.median(t["frames"] / t["other_cpu_s"] for t in self.turns)),
            "store_us_per_frame": round(1e6 * median("store_cpu_s") / median("frames"), 1),
            "workers_mb_first": round(self.memory_mb[0]),
            "workers_mb_last": round(self.memory_mb[-1]),
        }
        if self.ages:
            found |= {"weights_age": round(statistics.mean(self.ages), 2)}
        return found


def compare(workers: int, *, turns: int, batches: int, frames_per_batch: int) -> dict[str, Any]:
    """Both collectors with so many workers, in turns."""
    sides = [Side(kind, workers=workers, frames_per_batch=frames_per_batch) for kind in KINDS]
    for _ in range(turns):
        for side in sides:
            side.collect(batches)
    ratios = [
        (b["frames"] / (b["learner_cpu_s"] + b["other_cpu_s"]))
        / (a["frames"] / (a["learner_cpu_s"] + a["other_cpu_s"]))
        for a, b in zip(sides[0].turns, sides[1].turns, strict=True)
    ]
    found: dict[str, Any] = {side.name: side.summary() for side in sides}
    found["ratio_of_frames_per_cpu_s"] = round(statistics.median(ratios), 3)
    found["learner_mb"] = round(resident_mb())
    found["frame_bytes"] = bytes_per_frame(sides[1])
    found["weights_bytes"] = sum(value.nbytes for value in sides[1].training.algorithm.policy.state_dict().values())
    for side in sides:
        side.training.source.shutdown()
    return found


def bytes_per_frame(side: Side) -> int:
    """Bytes of one frame on their way to the learner."""
    batch = next(side.source)
    return round(sum(values.nbytes for _, _, values in packed_batch(batch).values()) / batch.numel())


class Echo:
    """An actor that takes weights and returns a batch of a given size."""

    def answer(self, weights: Packed[str], size: int) -> Packed[str]:
        """So many bytes, as a batch has them."""
        unpacked(weights)
        return packed([("pixels", torch.zeros(size, dtype=torch.uint8))])


def costs(*, rounds: int) -> dict[str, Any]:
    """CPU milliseconds of the learner's process for one request, by the size of its answer and of new weights."""
    import ray

    from tm_torchrl.collectors.on_ray.session import connect, disconnect

    connect("local", num_cpus=1)
    actor = ray.remote(num_cpus=1)(Echo).remote()
    few = ray.put(packed([("w", torch.zeros(10))]))
    found: dict[str, Any] = {"request_ms": {}, "weights_ms": {}}
    for size in SIZES:
        weights = torch.zeros(size, dtype=torch.uint8)
        unpacked(ray.get(actor.answer.remote(few, size)))
        begin = time.process_time()
        for _ in range(rounds):
            unpacked(ray.get(actor.answer.remote(few, size)))
        between = time.process_time()
        for _ in range(rounds):
            ray.put(packed([("w", weights)]))
        found["request_ms"][size] = round(1000 * (between - begin) / rounds, 3)
        found["weights_ms"][size] = round(1000 * (time.process_time() - between) / rounds, 3)
    disconnect()
    return found


DRAWN_FROM = {
    "one_buffer": ["collector=single"],
    "two_shards": ["collector=ray", "collector.num_workers=1", "replay=sharded", "replay.num_shards=2"],
}
PRIORITIES = "replay.prioritized={_target_: tm_torchrl.data.Priorities, alpha: 0.6, beta: 0.4}"


def draw_costs(*, rounds: int) -> dict[str, Any]:
    """Milliseconds of the clock and of the learner's CPU for a batch of 128 with floats; priorities are given back."""
    found: dict[str, Any] = {}
    for place, words in DRAWN_FROM.items():
        for kind, more in {"uniform": [], "prioritised": [PRIORITIES]}.items():
            settings = compose_settings([*words, *more, "precision=float32", "replay.learning_starts=5_000"])
            t = make_training(settings, make_task(settings), log=lambda message: print("   ", message))
            t.set_schedules()
            memory, source = t.algorithm.memory, iter(t.source)
            while len(memory) < 6_000:
                store(t, next(source))
            taken = []
            for _ in range(rounds):
                begin, own = time.perf_counter(), time.process_time()
                batch = memory.sample()
                batch["td_error"] = torch.rand(len(batch), 1)
                memory.seen(batch)
                taken.append((time.perf_counter() - begin, time.process_time() - own))
            clock_s, cpu_s = (statistics.median(column) for column in zip(*taken, strict=True))
            found[f"{place}_{kind}"] = {"ms": round(1000 * clock_s, 2), "cpu_ms": round(1000 * cpu_s, 2)}
            t.source.shutdown()
    return found


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=20, help="of each collector")
    parser.add_argument("--batches", type=int, default=20, help="of a turn")
    parser.add_argument("--frames-per-batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=200, help="for the costs of a request")
    parser.add_argument("--write", action="store_true", help="keep the results")
    add_results_argument(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    found: dict[str, Any] = {"draw": draw_costs(rounds=arguments.rounds), "costs": costs(rounds=arguments.rounds)}
    print(json.dumps(found), flush=True)
    for workers in arguments.workers:
        options = {"turns": arguments.turns, "batches": arguments.batches}
        found[f"{workers}_workers"] = compare(workers, frames_per_batch=arguments.frames_per_batch, **options)
        print(json.dumps(found[f"{workers}_workers"], indent=2), flush=True)
        if arguments.write:  # after each, as they take long on a busy machine
            print("wrote", write_results("ray_cpu", {**describe_run(device="cpu"), **found}, folder=arguments.results))


if __name__ == "__main__":
    main()
