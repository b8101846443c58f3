"""Pause, size and memory of saving with ``ReplayLog`` and ``Checkpoints``.

    python benchmarks/speeds/bench_saving.py --write      # benchmarks/results/saving.json; about two minutes

Data are a collector's: 64 cars, 32 steps, n = 3, noise, so that nothing compresses. 200,000 transitions are held, and
60,000 are added between two appends, as many as 200 steps a second make in five minutes. ``floats`` are 184 at both
ends, prioritised, in memory; ``pixels`` are 64x64 bytes and 264 floats at both ends in a frame store. Every kind runs
in a process of its own, a restore in another. Pauses are wall seconds, since a disk is waited for: the median and the
worst of the rounds. Appends in the foreground and in the background take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tensordict import TensorDict
from torchrl.data import TensorDictReplayBuffer

from benchmarks.results_file import describe_run, write_results
from benchmarks.speeds import bench_frame_store
from benchmarks.speeds.bench_frame_store import resident_bytes
from tm_torchrl.data import NStep, ReplayLog, make_replay_buffer
from tm_torchrl.data.saving.checkpoint import Checkpoints

KINDS = {"floats": 184, "pixels": 264}
CHECKPOINT_FLOATS = 5_000_000  # a network of 5 MB with its target and two moments of an optimiser


def make_buffer(kind: str, capacity: int) -> TensorDictReplayBuffer:
    """The buffer of a training run."""
    is_pixels = kind == "pixels"
    return make_replay_buffer(
        capacity=capacity,
        batch_size=512,
        prioritized=True,
        storage="frames" if is_pixels else "memory",
        n_step=NStep(3, gamma=0.99, frame_ids=is_pixels),
        seed=0,
    )


def batches(kind: str) -> Iterator[TensorDict]:
    """An endless stream of steps."""
    bench_frame_store.NUM_FLOATS = KINDS[kind]
    return bench_frame_store.batches(pixels=kind == "pixels")


def extend(buffer: TensorDictReplayBuffer, source: Iterator[TensorDict], num: int) -> None:
    """Add ``num`` transitions or a few more."""
    end = buffer.write_count + num
    while buffer.write_count < end:
        buffer.extend(next(source))


def seconds(pauses: list[float]) -> dict[str, float]:
    """The median and the longest pause."""
    return {"median": round(statistics.median(pauses), 3), "worst": round(max(pauses), 3)}


def measure(kind: str, folder: Path, *, capacity: int, added: int, rounds: int) -> dict[str, Any]:
    """Pauses, sizes and memory of one kind, in this process."""
    source = batches(kind)
    next(source)
    before = resident_bytes()
    buffer = make_buffer(kind, capacity)
    extend(buffer, source, capacity)
    held = resident_bytes() - before
    log = ReplayLog(folder / "replay")
    first = log.append(buffer)
    pauses: dict[str, list[float]] = {"foreground": [], "background": []}
    sizes, disk = [], []
    for _ in range(rounds):
        for way in ("foreground", "background"):
            extend(buffer, source, added)
            appended = log.append(buffer, in_background=way == "background")
            log.wait()
            pauses[way].append(appended["seconds"])
            sizes.append(appended["bytes"])
            disk.append(sum(path.stat().st_size for path in log.folder.iterdir()))
    after = resident_bytes() - before
    return {
        "megabytes_in_memory": round(held / 1e6),
        "megabytes_in_memory_after_appends": round(after / 1e6),
        "first_append_s": round(first["seconds"], 3),
        "first_append_megabytes": round(first["bytes"] / 1e6, 1),
        "append_pause_s": seconds(pauses["foreground"]),
        "append_in_background_pause_s": seconds(pauses["background"]),
        "append_megabytes": round(max(sizes) / 1e6, 1),
        "most_megabytes_on_disk": round(max(disk) / 1e6),
    }


def restore(kind: str, folder: Path, *, capacity: int) -> dict[str, Any]:
    """Time and memory of a restore, in this process."""
    next(batches(kind))
    before = resident_bytes()
    buffer = make_buffer(kind, capacity)
    start = time.perf_counter()
    restored = ReplayLog(folder / "replay").restore(buffer)
    took = time.perf_counter() - start
    assert restored.rows == capacity
    return {"restore_s": round(took, 3), "megabytes_in_memory_restored": round((resident_bytes() - before) / 1e6)}


def checkpoint(folder: Path, rounds: int) -> dict[str, Any]:
    """Pause of a checkpoint."""
    checkpoints, pauses = Checkpoints(folder / "checkpoints"), []
    state = {str(part): torch.randn(CHECKPOINT_FLOATS // 4) for part in range(4)}
    for frames in range(4 * rounds):
        start = time.perf_counter()
        checkpoints.save(state, frames=frames)
        pauses.append(time.perf_counter() - start)
    return {"megabytes": round(checkpoints.list()[0]["bytes"] / 1e6, 1), "pause_s": seconds(pauses)}


def in_fresh_process(*arguments: str) -> dict[str, Any]:
    """The output of this program with other arguments, in a new process."""
    run = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=200_000, help="transitions held")
    parser.add_argument("--added", type=int, default=60_000, help="transitions between two appends")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; by default a temporary one")
    parser.add_argument("--write", action="store_true", help="benchmarks/results/saving.json")
    parser.add_argument(
        "--only", choices=["save", "restore"], help="one part in this process; needs --kind and --folder"
    )
    parser.add_argument("--kind", choices=list(KINDS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.only == "save":
        found = measure(args.kind, args.folder, capacity=args.capacity, added=args.added, rounds=args.rounds)
        print(json.dumps(found))
        return
    if args.only == "restore":
        print(json.dumps(restore(args.kind, args.folder, capacity=args.capacity)))
        return
    results: dict[str, Any] = {**describe_run(device="cpu"), "transitions": args.capacity, "added": args.added}
    for kind in KINDS:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            same = ["--kind", kind, "--folder", folder, "--capacity", str(args.capacity)]
            rest = ["--added", str(args.added), "--rounds", str(args.rounds)]
            results[kind] = {
                **in_fresh_process("--only", "save", *same, *rest),
                **in_fresh_process("--only", "restore", *same),
            }
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        results["checkpoint"] = checkpoint(Path(folder), args.rounds)
    print(json.dumps({key: results[key] for key in (*KINDS, "checkpoint")}, indent=2))
    if args.write:
        print(f"wrote {write_results('saving', results)}")


if __name__ == "__main__":
    main()
