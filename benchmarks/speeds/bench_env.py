"""Speed and memory of the simulator and of ``TrackManiaEnv``; writes ``benchmarks/results/env_<device>.json``.

    python benchmarks/speeds/bench_env.py                 # about two minutes on one core
    python benchmarks/speeds/bench_env.py --device cuda   # batches of 1k to 64k cars

On a CPU all speeds are environment steps per CPU second of one thread, each the best of several runs alternated with
the others, so that a busy neighbour does not count. On CUDA they are per wall second. One environment step is five
physics ticks of 10 ms. CarRacing-v3 is the yardstick (``pip install -e ".[bench]"``); without it the column says
"not measured".
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gymnasium
import torch

from benchmarks.results_file import add_results_argument, describe_run, write_results
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.sim import Starts

SPREAD = Starts(zone=1.0)
SECONDS = 0.25  # of one measurement


class Bench:
    """One thing to time: ``run`` does ``cars`` environment steps."""

    def __init__(self, name: str, cars: int, run: Callable[[], object]) -> None:
        self.name = name
        self.cars = cars
        self.run = run
        self.best = 0.0

    def measure(self, clock: Callable[[], float]) -> None:
        """Time it once for about ``SECONDS`` and keep the best rate."""
        runs, start = 0, clock()
        while clock() - start < SECONDS or runs < 2:
            self.run()
            runs += 1
        self.best = max(self.best, self.cars * runs / (clock() - start))


def random_actions(cars: int, device: str) -> torch.Tensor:
    """One fixed draw of actions, with a share of gas that keeps cars going."""
    actions = torch.randint(0, 12, (cars,), generator=torch.Generator().manual_seed(0))
    return torch.where(torch.arange(cars) % 2 == 0, actions % 3, actions).to(device)


def simulator_benches(cars: int, device: str) -> list[Bench]:
    """Physics alone, with 264 floats, and with floats and camera."""
    env = TrackManiaEnv(cars, num_previous_actions=25, pixels=True, starts=SPREAD, device=device)
    race, world, actions = env.race, env.world, random_actions(cars, device)

    def floats() -> None:
        world.step(actions)
        race.tracker.update(actions)
        race.sensors.write()

    def pixels() -> None:
        floats()
        world.frames()

    def ended() -> torch.Tensor:
        return race.tracker["end_cause"] != 0

    def with_resets(run: Callable[[], object]) -> Callable[[], object]:
        """Cars that ended begin anew every 40 steps, so that they are measured on the track, not at a wall."""
        count = 0

        def step() -> None:
            nonlocal count
            run()
            count += 1
            if count % 40 == 0:
                race.reset(ended())

        return step

    return [
        Bench(f"physics {cars}", cars, with_resets(lambda: world.step(actions))),
        Bench(f"physics + 264 floats {cars}", cars, with_resets(floats)),
        Bench(f"physics + 264 floats + 64x64 image {cars}", cars, with_resets(pixels)),
    ]


def env_bench(cars: int, device: str, *, pixels: bool) -> Bench:
    """``TrackManiaEnv.step_and_maybe_reset``: what a collector pays."""
    env = TrackManiaEnv(cars, pixels=pixels, starts=SPREAD, device=device)
    actions = random_actions(cars, device)
    state = {"td": env.reset()}

    def step() -> None:
        _, state["td"] = env.step_and_maybe_reset(state["td"].set("action", actions))

    return Bench(f"TrackManiaEnv.step {'pixels' if pixels else 'floats'} {cars}", cars, step)


def car_racing_bench() -> Bench | None:
    """gymnasium's CarRacing-v3 with its 96x96 picture."""
    try:
        env = gymnasium.make("CarRacing-v3", continuous=False)
    except gymnasium.error.DependencyNotInstalled:
        return None
    env.reset(seed=0)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(3)
        if terminated or truncated:
            env.reset()

    return Bench("CarRacing-v3", 1, step)


def starts_of_processes() -> dict[str, float]:
    """Seconds until a fresh process has imported the package, and has a first image with and without built kernels."""
    run = (
        "import time; t=time.perf_counter(); import torch, torchrl; i=time.perf_counter();"
        "from tm_torchrl.envs import TrackManiaEnv; e=TrackManiaEnv(64, pixels=True); e.reset(); e.rand_step();"
        "print(time.perf_counter()-i, i-t)"
    )
    empty = "import time; t=time.perf_counter(); import tm_torchrl; print(time.perf_counter()-t, 0)"

    def once(code: str, cache: str) -> float:
        env = {**os.environ, "WARP_CACHE_PATH": cache, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-2])

    with tempfile.TemporaryDirectory() as cache:
        cold = once(run, cache)
        warm = min(once(run, cache) for _ in range(3))
        return {
            "import_s": min(once(empty, cache) for _ in range(3)),
            "first_start_with_kernel_build_s": cold,
            "cached_start_s": warm,
        }


WORKER = """
import sys, time; sys.path.insert(0, {root!r})
import torch; torch.set_num_threads(1)
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.sim import Starts
env = TrackManiaEnv(64, pixels=True, starts=Starts(zone=1.0)); td = env.reset(); a = torch.zeros(64, dtype=torch.int64)
print("ready", flush=True)
for line in sys.stdin:
    end, steps = time.perf_counter() + {seconds}, 0
    while time.perf_counter() < end:
        _, td = env.step_and_maybe_reset(td.set("action", a)); steps += 64
    print(steps, flush=True)
"""


def scaling(rounds: int = 10, seconds: float = 0.5) -> dict[str, float]:
    """Environment steps of two processes against one, best of alternations, per wall second."""
    code = WORKER.format(root=str(Path(__file__).resolve().parents[2]), seconds=seconds)
    workers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()

    def together(some: list[subprocess.Popen[str]]) -> float:
        for worker in some:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        return sum(int(w.stdout.readline()) for w in some if w.stdout is not None) / seconds

    one = two = 0.0
    for _ in range(rounds):
        one, two = max(one, together(workers[:1])), max(two, together(workers))
    for worker in workers:
        worker.terminate()
        worker.wait()
    return {"one_process": one, "two_processes": two, "ratio_of_bests": two / one}


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=5, help="alternations; the best of each is kept")
    add_results_argument(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    is_cpu = args.device == "cpu"
    batches = (1, 16, 64, 256, 1024) if is_cpu else (1024, 4096, 16384, 65536)
    benches = [bench for cars in batches for bench in simulator_benches(cars, args.device)]
    env_cars = (1, 64, 256) if is_cpu else batches
    benches += [env_bench(cars, args.device, pixels=pixels) for cars in env_cars for pixels in (False, True)]
    racing = car_racing_bench() if is_cpu else None
    benches += [racing] if racing else []

    def wall() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    clock = time.process_time if is_cpu else wall
    for _ in range(args.rounds):
        for bench in benches:
            bench.measure(clock)
    speeds = {bench.name: round(bench.best, 1) for bench in benches}
    results = {
        **describe_run(device=args.device),
        "unit": "environment steps per CPU second, one thread" if is_cpu else "environment steps per second",
        "steps_per_s": speeds,
    }
    if is_cpu:
        results["start_s"] = {key: round(value, 3) for key, value in starts_of_processes().items()}
        results["scaling"] = {key: round(value, 2) for key, value in scaling().items()}
    path = write_results(f"env_{args.device}", results, folder=args.results)
    for name, speed in speeds.items():
        print(f"{name:45s} {speed:12,.0f}")
    for key in ("start_s", "scaling"):
        print(key, results.get(key, "not measured"))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
