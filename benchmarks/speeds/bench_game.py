"""Decisions per second through the game's protocols, with the emulator in a process of its own.

    python benchmarks/speeds/bench_game.py --write                # TMInterface 2.x: benchmarks/results/game.json
    python benchmarks/speeds/bench_game.py --protocol 1 --write   # TMInterface 1.x: benchmarks/results/game1.json

A decision is an action sent, 50 ms of race played by the simulator behind the protocol, and the state read back; or the
picture too. Of TMInterface 2.x the same drive in the simulator of this process stands for comparison, as does the whole
environment with its floats. Of 1.x our client stands beside the package's own, whose waiting takes 90 us or more each
time, with decisions of 50 ms (five calls of the game) and of 10 ms. Client and emulator are two processes, so these are
wall seconds: other programs slow them, and the best of several rounds is reported, with the median beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.results_file import ROOT, describe_run, write_results
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.game import GameWorld, TMInterface1Client, TMInterface2Client
from tm_torchrl.game.emulator.process import EmulatorLauncher
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.medals import author_actions
from tm_torchrl.world.actions import ACTIONS, TICK_MS, TICKS_PER_ACTION
from tm_torchrl.world.protocol import World

TRACK = "oval"
STOCK = ROOT / "tests" / "game" / "tmi1" / "stock_client.py"
Measures = dict[str, Callable[[], float]]


def lap() -> list[int]:
    """The actions of the author's lap."""
    actions = author_actions(TRACK)
    assert actions is not None
    return [int(action) for action in actions]


def steps_per_s(step: Callable[[torch.Tensor], object], reset: Callable[[], object]) -> float:
    """Steps per second over one author's lap."""
    actions = [torch.tensor([action]) for action in lap()]
    reset()
    begin = time.perf_counter()
    for action in actions:
        step(action)
    return len(actions) / (time.perf_counter() - begin)


def drives(name: str, world: World) -> Measures:
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


@contextlib.contextmanager
def measures2() -> Iterator[Measures]:
    """TMInterface 2.x beside the simulator."""
    track = load_track(TRACK)
    emulator = EmulatorLauncher(TRACK, protocol=2).launch(0, address=0)
    game = GameWorld(TMInterface2Client(port=int(emulator.address)), track, image_size=64)
    try:
        simulator = Simulator(track, num_cars=1, image_size=64)
        yield {**drives("emulator 2.x", game), **drives("simulator in this process", simulator)}
    finally:
        game.close()
        emulator.stop()


def of_ours(*, num_ticks: int) -> float:
    """Decisions per second of our client of TMInterface 1.x, over an author's lap."""
    emulator = EmulatorLauncher(TRACK, protocol=1).launch(0)
    client = TMInterface1Client(channel=str(emulator.address))
    inputs = [ACTIONS[action] for action in lap() for _ in range(TICKS_PER_ACTION // num_ticks)]
    try:
        client.connect()
        client.restart()
        begin = time.perf_counter()
        for each in inputs:
            client.drive(each, num_ticks=num_ticks)
        return len(inputs) / (time.perf_counter() - begin)
    finally:
        client.close()
        emulator.stop()


def of_stock(*, num_ticks: int) -> float:
    """Decisions per second of the package's client, unchanged."""
    emulator = EmulatorLauncher(TRACK, protocol=1).launch(0)
    command = [sys.executable, str(STOCK), str(emulator.address), TRACK, str(num_ticks * TICK_MS)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None
        client.stdout.readline()
    finally:
        emulator.stop()
    return float(json.loads(client.communicate(timeout=60)[0])["rate"])


@contextlib.contextmanager
def measures1() -> Iterator[Measures]:
    """Both clients of TMInterface 1.x."""
    yield {
        f"{name}, {num_ticks * TICK_MS} ms": lambda measure=measure, num_ticks=num_ticks: measure(num_ticks=num_ticks)  # type: ignore[misc]
        for num_ticks in (TICKS_PER_ACTION, 1)
        for name, measure in (("our client", of_ours), ("the package's client", of_stock))
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", type=int, choices=(1, 2), default=2, help="of TMInterface 1.x or 2.x (2)")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--write", action="store_true", help="keep the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with measures1() if args.protocol == 1 else measures2() as kinds:
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(args.rounds):
            for name, measure in kinds.items():
                found[name].append(measure())
    rates = {
        name: {"best": round(max(values)), "median": round(statistics.median(values))} for name, values in found.items()
    }
    for name, rate in rates.items():
        print(f"{name:50} best {rate['best']:>7,}  median {rate['median']:>7,}")
    if args.write:
        load = [round(each, 1) for each in os.getloadavg()] if hasattr(os, "getloadavg") else None  # over 1, 5, 15 min
        facts = {"unit": "decisions per wall second, one car", "decisions_per_s": rates, "load_average": load}
        print(
            "wrote", write_results("game1" if args.protocol == 1 else "game", {**describe_run(device="cpu"), **facts})
        )


if __name__ == "__main__":
    main()
