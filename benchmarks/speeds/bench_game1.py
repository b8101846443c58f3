"""Decisions per second through TMInterface 1.x, with the emulator in a process of its own.

    python benchmarks/speeds/bench_game1.py --write       # benchmarks/results/game1.json; two minutes

A decision is keys sent, the race played on, and the state read back: after 50 ms (five calls of the game), or after
each tick of 10 ms. Measured are our client, and the package's own, whose waiting takes 90 us or more each time. These
are wall seconds of two processes: other programs slow them, so the best of several rounds is reported, with the median.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import describe_run, write_results
from benchmarks.speeds.bench_game import load_average, rates_of
from tm_torchrl.game import TMInterface1Client
from tm_torchrl.game.emulator.process import EmulatorLauncher
from tm_torchrl.tracks.medals import author_actions
from tm_torchrl.world.actions import ACTIONS, TICK_MS, TICKS_PER_ACTION

TRACK = "oval"
STOCK = Path(__file__).resolve().parents[2] / "tests" / "game" / "tmi1" / "stock_client.py"


def ours(*, num_ticks: int) -> float:
    """Decisions per second of our client, over an author's lap."""
    emulator = EmulatorLauncher(TRACK, protocol=1).launch(0)
    client = TMInterface1Client(channel=str(emulator.address))
    actions = author_actions(TRACK)
    assert actions is not None
    inputs = [ACTIONS[int(action)] for action in actions for _ in range(TICKS_PER_ACTION // num_ticks)]
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


def stock(*, num_ticks: int) -> float:
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


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the results")
    args = parser.parse_args()
    found: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for num_ticks in (TICKS_PER_ACTION, 1):
            for name, measure in (("our client", ours), ("the package's client", stock)):
                found.setdefault(f"{name}, {num_ticks * TICK_MS} ms", []).append(measure(num_ticks=num_ticks))
    rates = rates_of(found)
    if args.write:
        facts = {"unit": "decisions per wall second, one car", "decisions_per_s": rates, "load_average": load_average()}
        print("wrote", write_results("game1", {**describe_run(device="cpu"), **facts}))


if __name__ == "__main__":
    main()
