"""Shipped medal times, author laps and records, driven again on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from tm_torchrl.commands.medals import author_and_record
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.search import Lap, replay_lap
from tm_torchrl.tracks import BUILTIN_TRACKS, DEFAULT_TRACK, load_track
from tm_torchrl.tracks.medals import Record, author_actions, decode_actions, encode_actions, medals_of
from tm_torchrl.world.actions import ACTIONS, Inputs
from tm_torchrl.world.drivers import Driver, FullThrottle, Pursuit, drive
from tm_torchrl.world.tracker import EndCause

STALE = "the medals are stale: run scripts/optimize_lap.py and scripts/make_medals.py"


def race_time(driver_of, name: str = DEFAULT_TRACK) -> float:
    """Race time in seconds from a standing start, infinite if the driver does not finish."""
    world = Simulator(load_track(name), num_cars=1)
    *_, tracker = drive(world, driver_of(world))
    return tracker["race_time_ms"].item() / 1000 if tracker["end_cause"].item() == EndCause.FINISHED else float("inf")


@pytest.mark.parametrize("name", BUILTIN_TRACKS)
def test_author_lap_and_record_take_exactly_their_time_and_medals_are_in_order(name: str):
    medals = medals_of(name)
    assert medals is not None, STALE
    lap = replay_lap(load_track(name), author_actions(name))
    assert lap is not None and lap.time_s == medals.author_s, STALE
    assert medals.record.time_s <= medals.author_s <= 0.97 * medals.gold_s
    record = replay_lap(load_track(name), decode_actions(medals.record.actions))
    assert record is not None and record.time_s == medals.record.time_s, STALE
    assert medals.gold_s < medals.silver_s < medals.bronze_s
    assert 20.0 <= medals.author_s <= 90.0


def test_the_default_track_needs_driving():
    medals = medals_of(DEFAULT_TRACK)
    assert 25.0 <= medals.author_s <= 45.0
    assert race_time(lambda world: FullThrottle()) > medals.gold_s

    for boldness in (0.6, 0.8, 1.0):

        def coasting(world: Simulator, boldness: float = boldness) -> Driver:
            return Pursuit(world.tracks, world.track_index, boldness=boldness, brakes=False)

        assert race_time(coasting) > medals.gold_s, "a driver that never brakes earns no gold"

    def braking(world: Simulator) -> Driver:
        return Pursuit(world.tracks, world.track_index, boldness=0.6)

    assert race_time(braking) <= medals.bronze_s


def test_medal_of_a_time():
    medals = medals_of(DEFAULT_TRACK)
    assert medals.won_by(medals.author_s) == "author"
    assert medals.won_by(medals.author_s + 0.01) == "gold"
    assert medals.won_by(medals.silver_s) == "silver"
    assert medals.won_by(medals.bronze_s) == "bronze"
    assert medals.won_by(medals.bronze_s + 0.01) is None
    assert medals_of("my own track") is None
    assert author_actions("my own track") is None


def test_letters_round_trip():
    letters = "0123456789ab" * 3
    assert encode_actions(decode_actions(letters)) == letters


def slow_lap() -> Lap:
    """A lap of the oval that takes longer than the author's: the author's inputs, some steps later."""
    waiting = ACTIONS.index(Inputs(False, False, False, False))
    lap = replay_lap(load_track("oval"), np.insert(author_actions("oval"), 0, [waiting] * 10))
    assert lap is not None and lap.time_s > medals_of("oval").author_s
    return lap


def save(path: Path, lap: Record) -> None:
    path.write_text(json.dumps(asdict(lap)))


def test_the_fastest_lap_is_the_record_and_the_author_stays(tmp_path):
    oval, kept, slow = load_track("oval"), medals_of("oval"), slow_lap()
    fast = Record(kept.author_s, kept.author_actions, "policy with search", 2.0, is_settled=True)
    behind = Record(slow.time_s, encode_actions(slow.actions), "search alone", 9.0, is_settled=False)
    alone, with_policy = tmp_path / "oval.json", tmp_path / "oval-with-policy.json"
    kept = replace(kept, author_s=slow.time_s, author_actions=behind.actions, search_cpu_minutes=1.0, record=behind)
    author, record = author_and_record(oval, kept, tmp_path)
    assert (author.time_s, author.actions, author.cpu_minutes) == (slow.time_s, behind.actions, 1.0)
    assert record == behind
    save(with_policy, fast)
    assert author_and_record(oval, kept, tmp_path) == (author, fast)
    save(alone, behind)  # slower: changes nothing
    assert author_and_record(oval, kept, tmp_path) == (author, fast)
    save(with_policy, replace(fast, cpu_minutes=40.0))  # the search went on, and found nothing
    assert author_and_record(oval, replace(kept, record=fast), tmp_path)[1].cpu_minutes == 40.0


def test_after_a_change_of_physics_the_author_is_the_lap_of_a_search_alone(tmp_path):
    oval, kept, slow = load_track("oval"), medals_of("oval"), slow_lap()
    fast = Record(kept.author_s, kept.author_actions, "search alone", 2.0, is_settled=False)
    stale = replace(kept, author_s=1.0, author_actions=encode_actions(slow.actions), record=replace(fast, time_s=1.0))
    author, record = author_and_record(oval, stale, tmp_path)
    assert (author.time_s, record.time_s) == (slow.time_s, kept.author_s)  # as they are driven today
    save(tmp_path / "oval.json", fast)
    assert author_and_record(oval, stale, tmp_path)[0] == fast
    assert author_and_record(oval, None, tmp_path) == (fast, fast)
    assert author_and_record(oval, None, tmp_path / "nothing") is None
