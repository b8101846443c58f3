"""How long collection pauses when a worker is killed or stopped: seconds from the signal to the next batch.

    python benchmarks/speeds/bench_restart.py --write     # benchmarks/results/restart.json; a minute or two

The default environment and collector of ``train_iqn``, with the default limit of 10 s for a worker that stands still.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.results_file import describe_run, write_results
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.run import make_training

SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}


def pause_s(kind: str, name: str) -> float:
    """One failure of the first worker."""
    settings = compose_settings([f"collector={kind}"])
    task = make_task(settings)
    collector = make_training({**settings, "precision": "float32"}, task).source
    try:
        for _ in range(4):
            next(collector)
        os.kill(collector._processes()[0].pid, SIGNALS[name])
        begin = time.perf_counter()
        while collector.num_restarts == 0:
            next(collector)
        return time.perf_counter() - begin
    finally:
        collector.shutdown()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="keep the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name in SIGNALS:
        found = [pause_s("multi_sync", name) for _ in range(args.rounds)]
        rows[name] = {"median_s": statistics.median(found), "worst_s": max(found)}
        print(name, {key: round(value, 1) for key, value in rows[name].items()}, flush=True)
    if args.write:
        print("wrote", write_results("restart", {**describe_run(device="cpu"), "limit_s": 10.0, "pauses": rows}))


if __name__ == "__main__":
    main()
