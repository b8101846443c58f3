"""Memory and speed of ``FrameStorage`` and ``NStep`` beside TorchRL's; writes ``benchmarks/results/frame_store.json``.

    python benchmarks/speeds/bench_frame_store.py         # about two minutes on one core

Data are a collector's: 64 cars, 32 steps, 64x64 pixels, 264 floats, an episode of 600 steps on average, n = 3. Bytes
per transition are the growth of the process's resident memory while the buffer fills from a quarter to the brim, each
storage in a fresh process. Speeds are per CPU second of one thread, the best of rounds alternated between storages.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs.transforms import MultiStepTransform

from benchmarks.results_file import describe_run, write_results
from tm_torchrl.data import FrameStorage, NStep

NUM_LANES, NUM_STEPS, NUM_FLOATS, EPISODE_STEPS, BATCH = 64, 32, 264, 600, 512
KINDS = ("LazyTensorStorage", "FrameStorage pixels", "FrameStorage")


def batches(*, pixels: bool = True, seed: int = 0) -> Iterator[TensorDict]:
    """Batches that go on where the last one stopped; images of noise, so that nothing compresses."""
    generator = torch.Generator().manual_seed(seed)
    last: dict[str, torch.Tensor] = {}
    while True:
        shape = (NUM_LANES, NUM_STEPS + 1)
        found = {"observation": torch.randn(*shape, NUM_FLOATS, generator=generator)}
        if pixels:
            found["pixels"] = torch.randint(0, 256, (*shape, 1, 64, 64), dtype=torch.uint8, generator=generator)
        for key, value in last.items():
            found[key][:, 0] = value
        last = {key: value[:, -1].clone() for key, value in found.items()}
        done = torch.rand(NUM_LANES, NUM_STEPS, 1, generator=generator) < 1 / EPISODE_STEPS
        yield TensorDict(
            {
                **{key: value[:, :-1] for key, value in found.items()},
                "action": torch.zeros(NUM_LANES, NUM_STEPS, dtype=torch.int64),
                "next": {
                    **{key: value[:, 1:] for key, value in found.items()},
                    "reward": torch.randn(NUM_LANES, NUM_STEPS, 1, generator=generator),
                    "done": done,
                    "terminated": done,
                    "truncated": torch.zeros_like(done),
                },
            },
            batch_size=[NUM_LANES, NUM_STEPS],
        )


def make_buffer(kind: str, capacity: int) -> TensorDictReplayBuffer:
    """A uniform buffer of one kind of storage, behind an n-step writer."""
    storage = {
        "LazyTensorStorage": lambda: LazyTensorStorage(capacity),
        "FrameStorage pixels": lambda: FrameStorage(capacity, frame_keys=("pixels",)),
        "FrameStorage": lambda: FrameStorage(capacity),
    }[kind]()
    buffer = TensorDictReplayBuffer(storage=storage, batch_size=BATCH)
    buffer.append_transform(NStep(3, gamma=0.99, frame_ids=kind != "LazyTensorStorage"))
    return buffer


def resident_bytes() -> int:
    """Resident memory of this process (Linux with glibc), without what its allocator holds in reserve."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def bytes_per_transition(kind: str, capacity: int) -> float:
    """Growth of resident memory per transition; to be called in a fresh process."""
    buffer, start = make_buffer(kind, capacity), None
    for batch in batches():
        buffer.extend(batch)
        if start is None and len(buffer) >= capacity // 4:
            start = (resident_bytes(), len(buffer))
        if len(buffer) == capacity:
            assert start is not None
            return (resident_bytes() - start[0]) / (len(buffer) - start[1])
    raise AssertionError("batches never end")


def measure_in_fresh_process(kind: str, capacity: int) -> float:
    """``bytes_per_transition``, undisturbed by what this process has allocated."""
    command = [sys.executable, __file__, "--bytes-of", kind, "--capacity", str(capacity)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(run.stdout.splitlines()[-1])


def speeds(capacity: int, rounds: int) -> dict[str, dict[str, float]]:
    """Transitions written and sampled per CPU second."""
    buffers = {kind: make_buffer(kind, capacity) for kind in KINDS}
    best = {kind: {"written_per_s": 0.0, "sampled_per_s": 0.0} for kind in KINDS}
    for number, batch in zip(range(rounds + capacity // (NUM_LANES * NUM_STEPS) + 2), batches(), strict=False):
        for kind, buffer in buffers.items():
            start = time.process_time()
            buffer.extend(batch)
            middle = time.process_time()
            if len(buffer) == capacity and number > 2:
                buffer.sample()
                end = time.process_time()
                rates = {"written_per_s": batch.numel() / (middle - start), "sampled_per_s": BATCH / (end - middle)}
                best[kind] = {name: max(best[kind][name], rate) for name, rate in rates.items()}
    return best


def n_step_speeds(rounds: int) -> dict[str, float]:
    """Transitions per CPU second of the n-step writers alone."""
    best: dict[str, float] = {}
    for pixels in (False, True):
        name = "pixels and floats" if pixels else "floats"
        writers = {
            f"NStep {name}": NStep(3, gamma=0.99).transitions,
            f"MultiStepTransform {name}": MultiStepTransform(n_steps=3, gamma=0.99).inv,
        }
        for _, batch in zip(range(rounds), batches(pixels=pixels), strict=False):
            for writer, write in writers.items():
                start = time.process_time()
                write(batch)
                best[writer] = max(best.get(writer, 0.0), batch.numel() / (time.process_time() - start))
    return best


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=60_000, help="transitions")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--bytes-of", choices=KINDS, help="measure one storage's memory in this process and stop")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.bytes_of:
        print(bytes_per_transition(args.bytes_of, args.capacity))
        return
    results = {
        **describe_run(device="cpu"),
        "bytes_per_transition": {kind: round(measure_in_fresh_process(kind, args.capacity)) for kind in KINDS},
        "storage": {
            kind: {name: round(rate) for name, rate in rates.items()}
            for kind, rates in speeds(min(args.capacity, 20_000), args.rounds).items()
        },
        "n_step_transitions_per_s": {name: round(rate) for name, rate in n_step_speeds(args.rounds).items()},
    }
    path = write_results("frame_store", results)
    print(json.dumps({key: results[key] for key in list(results)[-3:]}, indent=2))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
