"""Decisions per second through the game's protocols, with the emulator in its own process.

    python benchmarks/speeds/bench_game.py --write        # benchmarks/results/game.json; a minute

A decision is an action sent, 50 ms of race played by the simulator behind the protocol, and the state read back; or the
picture too. Client and emulator are two processes, so these are wall seconds: other programs slow them, and the best
of several rounds is reported, with the median beside it. The same drive in the simulator of this process stands for
comparison, as does the whole environment with its floats.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.results_file import describe_run, write_results
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.game import GameWorld, TMInterface2Client
from tm_torchrl.game.emulator.process import EmulatorLauncher
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.medals import author_actions
from tm_torchrl.world.protocol import World

TRACK = "oval"


def cpu_s(pid: int) -> float:
    """CPU seconds of another process; NaN where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_us_per_decision(run: Callable[[], float], pid: int, *, laps: int) -> dict[str, float]:
    """CPU microseconds of client and emulator, which a busy neighbour changes less than the rates."""
    begin, begin_there = time.process_time(), cpu_s(pid)
    for _ in range(laps):
        run()
    actions = author_actions(TRACK)
    assert actions is not None
    num = laps * len(actions)
    here, there = time.process_time() - begin, cpu_s(pid) - begin_there
    return {"client": round(1e6 * here / num, 1), "emulator": round(1e6 * there / num, 1)}


def steps_per_s(step: Callable[[torch.Tensor], object], reset: Callable[[], object]) -> float:
    """Steps per second over one author's lap."""
    actions = author_actions(TRACK)
    assert actions is not None
    laps = [torch.tensor([int(action)]) for action in actions]
    reset()
    begin = time.perf_counter()
    for action in laps:
        step(action)
    return len(laps) / (time.perf_counter() - begin)


def load_average() -> list[float] | None:
    """Load over 1, 5 and 15 minutes: above the number of cores, rates are too low."""
    return [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None


def rates_of(found: dict[str, list[float]]) -> dict[str, dict[str, int]]:
    """Best and median of the rounds, printed as well."""
    rates = {
        name: {"best": round(max(values)), "median": round(statistics.median(values))} for name, values in found.items()
    }
    for name, rate in rates.items():
        print(f"{name:50} best {rate['best']:>7,}  median {rate['median']:>7,}", flush=True)
    return rates


def drives(name: str, world: World) -> dict[str, Callable[[], float]]:
    """Measurements of a world: physics, pictures, and the environment on top."""
    race = TrackManiaEnv(1, world=world).race

    def step_and_look(action: torch.Tensor) -> None:
        world.step(action)
        world.frames()

    return {
        f"{name}, state": lambda: steps_per_s(world.step, world.reset),
        f"{name}, state and 64x64 picture": lambda: steps_per_s(step_and_look, world.reset),
        f"{name}, floats and rewards": lambda: steps_per_s(race.step, race.reset),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--write", action="store_true", help="keep the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    track = load_track(TRACK)
    emulator = EmulatorLauncher(TRACK, protocol=2).launch(0, address=0)
    client = TMInterface2Client(port=int(emulator.address))
    game = GameWorld(client, track, image_size=64)
    simulator = Simulator(track, num_cars=1, image_size=64)
    try:
        kinds = {**drives("emulator 2.x", game), **drives("simulator in this process", simulator)}
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(args.rounds):
            for name, measure in kinds.items():
                found[name].append(measure())
        costs = {
            name: cpu_us_per_decision(kinds[name], emulator.pid, laps=args.rounds)
            for name in kinds
            if name.startswith("emu")
        }
    finally:
        game.close()
        emulator.stop()
    rates = rates_of(found)
    for name, cost in costs.items():
        print(f"{name:50} CPU us: client {cost['client']}, emulator {cost['emulator']}")
    if args.write:
        unit = "decisions of 50 ms per wall second, one car"
        facts = {"unit": unit, "decisions_per_s": rates, "cpu_us_per_decision": costs, "load_average": load_average()}
        print("wrote", write_results("game", {**describe_run(device="cpu"), **facts}))


if __name__ == "__main__":
    main()
