"""Drives a lap with the package's own client, unchanged except for mmap where the system has no named mappings.

Command: python tests/game/tmi1/stock_client.py CHANNEL TRACK [MILLISECONDS OF A DECISION]; prints the results as JSON.
"""

from __future__ import annotations

import json
import mmap
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import tminterface.interface
from tminterface.client import Client
from tminterface.interface import TMInterface

from tm_torchrl.game.tmi1.channel import Channel
from tm_torchrl.tracks.medals import author_actions
from tm_torchrl.world.actions import ACTIONS


def open_shared(fileno: int, size: int, *, tagname: str) -> mmap.mmap:
    """A file in memory instead of Windows' named mapping."""
    return Channel(tagname, size=size).memory


class Driver(Client):  # type: ignore[misc]
    """Drives the author's lap, then rewinds to 1 s and drives on for a while."""

    def __init__(self, track: str, *, decision_ms: int) -> None:
        super().__init__()
        self.decision_ms = decision_ms
        actions = author_actions(track)
        assert actions is not None
        self.actions = [ACTIONS[int(action)] for action in actions]
        self.saw: dict[str, Any] = {"calls": [], "checkpoints": []}
        self.num_decisions = 0
        self.start = self.saved = None
        self.is_rewound = False
        self.is_finished = False
        self.began = 0.0

    def on_registered(self, iface: TMInterface) -> None:
        self.saw["calls"].append("registered")
        iface.set_timeout(5000)
        iface.set_speed(50.0)
        iface.log("driving", "success")
        iface.give_up()

    def on_run_step(self, iface: TMInterface, _time: int) -> None:
        if self.is_rewound:
            self.saw.setdefault("after_rewind", []).append(_time)
            if len(self.saw["after_rewind"]) == 5:
                again = iface.get_simulation_state()
                self.saw["is_same"] = bytes(again.data) == self.fifth
            return
        if self.is_finished:
            iface.rewind_to_state(self.saved)
            self.press(iface, 1000)
            self.is_rewound = True
            return
        if _time == 1050:
            self.fifth = bytes(iface.get_simulation_state().data)
        if _time < 0 or _time % self.decision_ms:
            return
        if _time == 0:
            self.began = time.perf_counter()
        self.press(iface, _time)
        state = iface.get_simulation_state()
        self.num_decisions += 1
        if _time == 1000:
            self.saved = state

    def press(self, iface: TMInterface, _time: int) -> None:
        inputs = self.actions[min(_time // 50, len(self.actions) - 1)]
        iface.set_input_state(left=inputs.left, right=inputs.right, accelerate=inputs.gas, brake=inputs.brake)

    def on_checkpoint_count_changed(self, iface: TMInterface, current: int, target: int) -> None:
        if self.is_finished:
            return  # the rewind tells of it before it has been answered: any request here would wait for ever
        times = [entry.time for entry in iface.get_simulation_state().cp_data.cp_times if entry.time != -1]
        self.saw["checkpoints"].append([current, target, times[-1]])
        if current == target:
            self.saw["rate"] = self.num_decisions / (time.perf_counter() - self.began)
            iface.prevent_simulation_finish()
            self.is_finished = True

    def on_laps_count_changed(self, iface: TMInterface, current: int) -> None:
        self.saw["calls"].append(f"lap {current}")

    def on_shutdown(self, iface: TMInterface) -> None:
        self.saw["calls"].append("shutdown")

    def on_deregistered(self, iface: TMInterface) -> None:
        self.saw["calls"].append("deregistered")


def main() -> None:
    channel, track, *more = sys.argv[1:]
    if sys.platform != "win32":
        tminterface.interface.mmap = SimpleNamespace(mmap=open_shared)
    driver = Driver(track, decision_ms=int(more[0]) if more else 50)
    interface = TMInterface(channel)
    interface.register(driver)
    end = time.monotonic() + 60.0
    is_told = False
    while interface.running and time.monotonic() < end:
        time.sleep(0.01)
        if not is_told and "is_same" in driver.saw:
            is_told = True
            print("end the game now", flush=True)  # noqa: T201
    driver.saw["is_ended"] = not interface.running
    print(json.dumps(driver.saw))  # noqa: T201


if __name__ == "__main__":
    main()
