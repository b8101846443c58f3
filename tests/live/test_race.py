"""Driving: keys in, states of the car out, in real time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import Site
from tests.live.run_folders import RULER
from tm_torchrl.evaluation.replays import replay
from tm_torchrl.live.race import Race
from tm_torchrl.record.run_folder import best_laps, load_lap, load_time
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import load_track
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.input_scripts import read_script


def read(events: Iterator[bytes]) -> tuple[str | None, Any]:
    """Kind and values of the next event."""
    lines = next(events).decode().split("\n")
    kind = lines[0].removeprefix("event: ") if lines[0].startswith("event") else None
    return kind, json.loads(lines[-3].removeprefix("data: "))


def test_a_lap_is_driven_in_real_time_and_kept(tmp_path: Path) -> None:
    race = Race(RULER, drives=tmp_path)
    events = race.events("r1")
    assert read(events) == ("race", {"race": "r1"})
    _, waiting = read(events)
    assert (waiting[0], waiting[1], waiting[-2]) == (0, 0.0, 0), "the clock waits for the first key"
    race.hold(1, turn=1)
    begin, states = time.perf_counter(), []
    while True:
        kind, values = read(events)
        if kind == "finished":
            break
        states.append(values)
        if values[1] == 0.83:
            race.hold(5, turn=2)  # in the midst of an action's 50 ms
        elif values[1] == 1.01:
            race.hold(1, turn=3)
    took_s = time.perf_counter() - begin
    driving = [state for state in states if state[1] > 0]
    assert [state[1] for state in driving[:3]] == [0.01, 0.02, 0.03], "one state for each tick"
    assert took_s > 0.9 * driving[-1][1], "not faster than the clock"
    assert values["time_s"] == pytest.approx(driving[-1][1], abs=0.011)
    assert (values["is_best"], values["best_s"], values["medal"]) == (True, None, None)
    kept = best_laps(tmp_path)["ruler"]
    lap = load_lap(kept)
    again = replay(Simulator(RULER, num_cars=1), lap["actions"])
    assert again.time_s == values["time_s"] == load_time(kept), "the kept keys drive the same lap"
    where = CAR_ROW["position"]
    assert (again.rows[:-1, where] == lap["rows"][:-1, where]).all()
    (script,) = best_laps(tmp_path, suffix=".inputs").values()
    assert replay(Simulator(RULER, num_cars=1), read_script(script)).time_s == values["time_s"]


def test_only_a_faster_lap_replaces_the_one_that_is_kept(tmp_path: Path) -> None:
    for hold_back, is_best in ((0.2, True), (0.5, False), (0.0, True)):
        race = Race(RULER, drives=tmp_path)
        events = race.events("r")
        read(events)
        race.hold(8, turn=1)  # right: the clock begins, the car stands
        while read(events)[1][1] < hold_back:
            pass
        race.hold(1, turn=2)
        while (event := read(events))[0] != "finished":
            pass
        assert event[1]["is_best"] is is_best
        assert len(best_laps(tmp_path)) == 1


def test_late_news_about_keys_is_ignored_and_a_restart_goes_back(tmp_path: Path) -> None:
    race = Race(load_track("oval"), drives=tmp_path)
    events = race.events("r")
    read(events)
    race.hold(1, turn=2)
    race.hold(15, turn=1)  # sent before, received after
    while (state := read(events)[1])[1] < 0.3:
        assert state[-3] in (0, 1)
    assert state[14] > 1.0, "the car moves"
    race.hold(0, turn=3, restart=True)
    seen = [read(events)[1] for _ in range(3)]
    assert (seen[-1][1], seen[-1][14], seen[-1][-2]) == (0.0, 0.0, 0)


def test_left_and_right_together_steer_nowhere(tmp_path: Path) -> None:
    race = Race(load_track("oval"), drives=tmp_path)
    events = race.events("r")
    read(events)
    race.hold(1 + 4 + 8, turn=1)
    while (state := read(events)[1])[1] < 0.5:
        pass
    assert abs(state[5]) < 1e-6 or abs(abs(state[7]) - 1) < 1e-6, "it goes straight on"


def test_keys_of_no_race(site: Site) -> None:
    body = {"race": "nothing", "held": 1, "turn": 1}
    assert site.ask("api/keys", method="POST", body=body)[0] == 404


@pytest.mark.parametrize("change", [{"held": 16}, {"held": -1}, {"held": "1"}, {"turn": None}, {"held": 1.5}])
def test_keys_are_bits(site: Site, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    api = site.server.routes["race"].__self__  # type: ignore[attr-defined]
    monkeypatch.setitem(api._races, "r", Race(RULER, drives=site.folder))
    body = {"race": "r", "held": 1, "turn": 1}
    assert site.ask("api/keys", method="POST", body=body)[0] == 200
    assert site.ask("api/keys", method="POST", body={**body, **change})[0] == 400
