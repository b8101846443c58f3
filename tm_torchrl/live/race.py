"""A race that is driven in the page: the simulator in real time, one tick of 10 ms after the other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tm_torchrl.live.lap_data import BRAKE, GAS, LEFT, RIGHT, Progress
from tm_torchrl.live.track_data import medal_won
from tm_torchrl.record.run_folder import best_laps, load_time, save_lap, save_script
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import ACTIONS, TICK_MS, TICKS_PER_ACTION, Inputs
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.input_scripts import script_of

TICK_S = TICK_MS / 1000.0
LATEST_S = 0.2  # a race that is later than this has been asleep, and does not catch up
WAITING_S = 0.1  # between the states of a car that stands at the start
MAX_TICKS = 360_000  # an hour
_FINISHED, _PASSED_AT = CAR_ROW.start("is_finished"), CAR_ROW.start("last_checkpoint_time_ms")
_CLOCK, _GEAR, _RPM = (CAR_ROW.start(name) for name in ("race_time_ms", "gear", "engine_rpm"))


class Race:
    """One car, driven by the keys that the page holds; the best lap is kept, as with ``tm-torchrl drive``.

    Args:
        track: Its track.
        drives: Folder of the kept laps.
    """

    def __init__(self, track: Track, *, drives: Path) -> None:
        self.track, self.drives = track, drives
        self._world = Simulator(track, num_cars=1, seed=0)
        self._changed = threading.Condition()
        self._held = self._turn = 0
        self._is_restarted = False

    def hold(self, held: int, *, turn: int, restart: bool = False) -> None:
        """Take the keys that are held.

        Args:
            held: Bits of the keys.
            turn: Grows with each change; older news, which may come late, is ignored.
            restart: Whether to go back to the start.
        """
        with self._changed:
            if turn >= self._turn:
                self._held, self._turn = held, turn
            self._is_restarted |= restart
            self._changed.notify()

    def events(self, name: str) -> Iterator[bytes]:
        """States of the car as server-sent events, until the page is gone.

        Args:
            name: By which the page refers to this race.
        """
        yield _event({"race": name}, kind="race")
        while True:
            yield from self._attempt()

    def _attempt(self) -> Iterator[bytes]:
        """One try from the start until it is given up."""
        self._world.reset()
        self._is_restarted = False
        progress, actions, rows = Progress(self.track), list[int](), [self._row()]
        while not self._held:
            yield self._state(rows[-1], progress, is_running=False)
            with self._changed:
                self._changed.wait(WAITING_S)
        due = time.perf_counter()
        while not self._is_restarted and len(actions) < MAX_TICKS:
            due = max(due + TICK_S, time.perf_counter() - LATEST_S)
            time.sleep(max(0.0, due - time.perf_counter()))
            actions.append(_action(self._held))
            self._world.tick(torch.tensor(actions[-1:]), num_ticks=1)
            row = self._row()
            if len(actions) % TICKS_PER_ACTION == 0 or row[_FINISHED]:
                rows.append(row)
            yield self._state(row, progress, is_running=not row[_FINISHED])
            if row[_FINISHED]:
                yield _event(self._keep(np.stack(rows), actions), kind="finished")
                break
        while not self._is_restarted:
            yield self._state(rows[-1], progress, is_running=False)
            with self._changed:
                self._changed.wait(WAITING_S)

    def _row(self) -> np.ndarray:
        return self._world.rows()[0].numpy().copy()

    def _state(self, row: np.ndarray, progress: Progress, *, is_running: bool) -> bytes:
        rotation, position = row[CAR_ROW["rotation"]].reshape(3, 3), row[CAR_ROW["position"]]
        velocity = row[CAR_ROW["velocity"]]
        axes = [*position, *rotation[:, 2], *rotation[:, 1], *velocity, np.linalg.norm(velocity)]
        clock_s = round(float(row[_CLOCK]) / 1000.0, 2)
        readings = [int(row[_GEAR]), int(row[_RPM]), self._held, int(is_running), round(progress.at(position), 2)]
        return _event([self._turn, clock_s, *(round(float(value), 4) for value in axes), *readings])

    def _keep(self, rows: np.ndarray, actions: list[int]) -> dict[str, Any]:
        """Keep a lap if it is the best, and say what came of it."""
        time_s = float(rows[-1, _PASSED_AT]) / 1000.0
        before = best_laps(self.drives).get(self.track.name)
        best_s = None if before is None else load_time(before)
        held = actions + actions[-1:] * (-len(actions) % TICKS_PER_ACTION)
        blocks = np.array(held).reshape(-1, TICKS_PER_ACTION)
        save_lap(self.drives, self.track.name, time_s, rows=rows, actions=blocks)
        kept = save_script(self.drives, self.track.name, time_s, script_of(blocks))
        is_best = best_s is None or time_s < best_s
        medal = medal_won(self.track.name, time_s)
        return {"time_s": time_s, "medal": medal, "best_s": best_s, "is_best": is_best, "kept": str(kept)}


def _action(held: int) -> int:
    """The action of held keys; left and right together cancel out."""
    left, right = bool(held & LEFT), bool(held & RIGHT)
    return ACTIONS.index(Inputs(bool(held & GAS), bool(held & BRAKE), left and not right, right and not left))


def _event(values: Any, *, kind: str | None = None) -> bytes:
    head = "" if kind is None else f"event: {kind}\n"
    return f"{head}data: {json.dumps(values, separators=(',', ':'))}\n\n".encode()
