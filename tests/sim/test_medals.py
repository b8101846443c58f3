"""Shipped medal times and author laps, driven again on this machine."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tm_torchrl.commands import medals as make_medals
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.search import replay_lap
from tm_torchrl.tracks import BUILTIN_TRACKS, DEFAULT_TRACK, load_track
from tm_torchrl.tracks.medals import Record, author_actions, decode_actions, encode_actions, medals_of
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


def test_a_faster_lap_becomes_the_record_and_the_author_stays(tmp_path, capsys, monkeypatch):
    kept = medals_of("oval")
    slower = replace(kept, author_s=kept.author_s, record=replace(kept.record, actions=kept.author_actions))
    found = {
        "time_s": kept.record.time_s,
        "actions": kept.record.actions,
        "found_by": "policy with search",
        "cpu_minutes": 2.04,
        "is_settled": True,
    }
    (tmp_path / "oval-with-policy.json").write_text(json.dumps(found))
    written = {}
    monkeypatch.setattr(make_medals, "medals_of", lambda name: slower)
    monkeypatch.setattr(make_medals, "write_medals", written.__setitem__)
    monkeypatch.setattr("sys.argv", ["medals", "oval", "--laps", str(tmp_path)])
    make_medals.main()
    medals = written["oval"]
    assert (medals.author_s, medals.author_actions) == (kept.author_s, kept.author_actions)
    assert (medals.bronze_s, medals.silver_s, medals.gold_s) == (kept.bronze_s, kept.silver_s, kept.gold_s)
    assert medals.record == Record(kept.record.time_s, kept.record.actions, "policy with search", 2.0, True)
    assert f"record  {kept.record.time_s:.2f} by policy with search" in capsys.readouterr().out
