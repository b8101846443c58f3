"""Speed of the whole training loop beside a hand-written one of the same work, and CartPole beside other libraries.

python benchmarks/speeds/bench_train.py              # the loop (some minutes)
python benchmarks/speeds/bench_train.py --write      # and keep benchmarks/results/train_cpu.json
python benchmarks/speeds/bench_train.py --cartpole   # CartPole to 475: ours and two others; needs the extra "bench"
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.peers.cartpole import run_ours, run_sb3, run_tianshou
from benchmarks.results_file import add_results_argument, describe_run, write_results
from benchmarks.speeds.bare_loop import BareLoop
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.settings import compose_settings
from tm_torchrl.sim import Starts
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers import Training
from tm_torchrl.trainers.malloc import keep_freed_memory
from tm_torchrl.trainers.run import make_training
from tm_torchrl.world.tracker import Limits

WARM_UP_FRAMES = 8_192
FRAMES = 16_384


class Loop:
    """The trainer's loop without hooks, in one process, so that its CPU seconds are all there are."""

    def __init__(self, precision: str) -> None:
        self.settings = compose_settings(["collector=single", "total_frames=1000000000"])
        task = make_task(self.settings)
        self.training: Training = make_training({**self.settings, "precision": precision}, task, log=print)
        self.training.set_schedules()
        self.batches = iter(self.training.source)
        self.arithmetic_s = 0.0

    def run(self, frames: int) -> float:
        """Play and learn; returns CPU seconds."""
        t = self.training
        begin, end = time.process_time(), t.frames + frames
        while t.frames < end:
            steps = next(self.batches)
            t.frames += steps.numel()
            t.episodes.add(steps)
            t.algorithm.memory.extend(steps)
            t.set_schedules()
            for batch in t.algorithm.memory.batches():
                t.losses = dict(t.algorithm.learner.update(batch))
                t.algorithm.memory.seen(batch)
            t.source.push_weights()
        return time.process_time() - begin

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Counts CPU seconds in simulator, network and loss into ``arithmetic_s``."""
        t = self.training
        algorithm: Any = t.algorithm
        env = t.source._groups[0].collector.env.env  # type: ignore[attr-defined]
        places: list[tuple[Any, str]] = [
            (env.race, "step"),
            (env.race, "reset"),
            (algorithm.actor.quantile_module.network, "quantiles"),
            (algorithm.learner, "update"),
        ]
        before = [(place, name, getattr(place, name)) for place, name in places]
        depth = [0]

        def timed(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                depth[0] += 1
                begin = time.process_time()
                try:
                    return function(*arguments, **options)
                finally:
                    depth[0] -= 1
                    if depth[0] == 0:
                        self.arithmetic_s += time.process_time() - begin

            return call

        for place, name, function in before:
            setattr(place, name, timed(function))
        try:
            yield
        finally:
            for place, name, function in before:
                setattr(place, name, function)


def bench_loop(rounds: int) -> dict[str, Any]:
    """Frames and updates per CPU second of both loops, in turns, in both precisions."""
    found: dict[str, Any] = {}
    for precision in ("float32", "bfloat16"):
        ours = Loop(precision)
        env = TrackManiaEnv(
            64,
            starts=Starts(zone=0.5, askew=0.1, off_road=0.1, wall=0.1, jitter_m=0.5, jitter_speed=2.0),
            limits=Limits(race_s=90.0, no_progress_s=4.0),
        )
        bare = BareLoop(env, half=precision == "bfloat16")
        ours.run(WARM_UP_FRAMES)
        bare.run(WARM_UP_FRAMES)
        seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(rounds):
            seconds["ours"].append(ours.run(FRAMES))
            seconds["bare"].append(bare.run(FRAMES))
        with ours.counted():
            whole = ours.run(FRAMES)
        best = {name: min(values) for name, values in seconds.items()}
        updates = FRAMES / bare.frames_per_update
        found[precision] = {
            "ours_frames_per_cpu_s": FRAMES / best["ours"],
            "ours_updates_per_cpu_s": updates / best["ours"],
            "ours_time_over_bare": best["ours"] / best["bare"],
            "share_in_simulator_network_and_loss": ours.arithmetic_s / whole,
        }
        print(precision, {name: round(value, 3) for name, value in found[precision].items()}, flush=True)
    return found


def bench_cartpole(seeds: int) -> dict[str, list[dict[str, float]]]:
    """CPU seconds and steps to a mean of 475 over 20 greedy episodes, evaluations excluded."""
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for name, run in (("ours", run_ours), ("sb3-contrib QR-DQN", run_sb3), ("tianshou IQN", run_tianshou)):
            result = run(seed)
            found.setdefault(name, []).append(result)
            print(seed, name, {key: round(value, 1) for key, value in result.items()}, flush=True)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--cartpole", action="store_true", help="only CartPole")
    parser.add_argument("--seeds", type=int, default=5, help="of CartPole")
    parser.add_argument("--write", action="store_true", help="keep the results")
    add_results_argument(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as train() does
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    name = "cartpole_cpu" if args.cartpole else "train_cpu"
    rows: dict[str, Any] = bench_cartpole(args.seeds) if args.cartpole else bench_loop(args.rounds)
    results = {**describe_run(device="cpu"), "rows": rows}
    if args.write:
        print("wrote", write_results(name, results, folder=args.results))


if __name__ == "__main__":
    main()
