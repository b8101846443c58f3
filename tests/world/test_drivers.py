"""Scripted drivers finish what they are made for, and each car is driven on its own track."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import BUILTIN_TRACKS, blocks, load_track
from tm_torchrl.world.actions import FORWARD, NUM_ACTIONS
from tm_torchrl.world.drivers import FullThrottle, Pursuit, RandomDriver, Replay, drive
from tm_torchrl.world.tracker import EndCause, Limits, Tracker


@pytest.mark.parametrize("name", BUILTIN_TRACKS)
def test_pursuit_finishes_every_built_in_track(name: str):
    world = Simulator(load_track(name), num_cars=1)
    *_, tracker = drive(world, Pursuit(world.tracks, world.track_index, boldness=0.6))
    assert EndCause(int(tracker["end_cause"])) is EndCause.FINISHED


def test_pursuit_drives_each_car_on_its_own_track():
    tracks = [blocks("SSSLSS"), blocks("SSSSRSSLSS")]
    alone = []
    for track in tracks:
        world = Simulator(track, num_cars=1)
        *_, tracker = drive(world, Pursuit(world.tracks, world.track_index))
        alone.append(tracker["race_time_ms"].item())
    world = Simulator(tracks, num_cars=16, seed=1)
    *_, tracker = drive(world, Pursuit(world.tracks, world.track_index))
    assert set(world.track_index.tolist()) == {0, 1}
    assert tracker["race_time_ms"].tolist() == [alone[track] for track in world.track_index.tolist()]


def test_a_race_that_is_over_stays_as_it_ended():
    world = Simulator(blocks("SSSSSS"), num_cars=2)
    race = drive(world, lambda rows, tracker: torch.tensor([3, FORWARD]), limits=Limits(no_progress_s=0.5))
    seen = [(int(tracker["end_cause"][0]), tracker.save()[0]) for tracker in race]
    assert [cause for cause, _ in seen[:11]] == [EndCause.NONE] * 10 + [EndCause.NO_PROGRESS]  # 0.5 s are 10 steps
    assert len(seen) > 50, "the other car drives on for 6 blocks of 32 m"
    assert all(torch.equal(row, seen[10][1]) for _, row in seen[10:])


def test_without_brakes_it_never_brakes():
    track = blocks("SSSSSSSSSSSSLSS")
    seen: dict[bool, set[int]] = {}
    for brakes in (True, False):
        world = Simulator(track, num_cars=1)
        pursuit = Pursuit(world.tracks, world.track_index, brakes=brakes)
        chosen: set[int] = set()

        def watched(rows, tracker, pursuit=pursuit, chosen=chosen):
            actions = pursuit(rows, tracker)
            chosen.update(actions.tolist())
            return actions

        list(islice(drive(world, watched), 400))
        seen[brakes] = chosen
    assert any(action >= 6 for action in seen[True]), "the sharp corner after a long straight needs the brake"
    assert all(action < 6 for action in seen[False])


def test_full_throttle_random_and_replay():
    world = Simulator(blocks("SSS"), num_cars=64)
    tracker = Tracker(world)
    rows = world.rows()
    assert FullThrottle()(rows, tracker).tolist() == [FORWARD] * 64
    first, again, other = (RandomDriver(seed=seed)(rows, tracker) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert int(first.min()) >= 0 and int(first.max()) < NUM_ACTIONS and len(first.unique()) > 6
    replay = Replay([7, 2])
    assert [replay(rows, tracker)[5].item() for _ in range(4)] == [7, 2, FORWARD, FORWARD]
