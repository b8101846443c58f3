"""Scripted drivers: they finish what they are made for, and each car is driven on its own track."""

from __future__ import annotations

import pytest
import torch

from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import BUILTIN_TRACKS, blocks, load_track
from tm_torchrl.world.actions import FORWARD, NUM_ACTIONS
from tm_torchrl.world.drivers import Driver, FullThrottle, Pursuit, RandomDriver, Replay
from tm_torchrl.world.tracker import EndCause, Tracker


def drive(world: Simulator, driver: Driver, *, num_steps: int = 6000) -> Tracker:
    """Drive until every car's race is over, or for a number of steps."""
    tracker = Tracker(world)
    tracker.reset(world.reset(), torch.ones(world.num_cars, dtype=torch.bool))
    over = torch.zeros(world.num_cars, dtype=torch.bool)
    ended = tracker.save()
    for _ in range(num_steps):
        actions = driver(world.rows(), tracker)
        world.step(actions)
        tracker.update(actions)
        now_over = (tracker["end_cause"] != EndCause.NONE) & ~over
        ended[now_over] = tracker.rows[now_over]
        over |= now_over
        if over.all():
            break
    ended[~over] = tracker.rows[~over]
    tracker.restore(ended)
    return tracker


@pytest.mark.parametrize("name", BUILTIN_TRACKS)
def test_pursuit_finishes_every_built_in_track(name: str):
    world = Simulator(load_track(name), num_cars=1)
    tracker = drive(world, Pursuit(world.tracks, world.track_index, boldness=0.6))
    assert EndCause(int(tracker["end_cause"])) is EndCause.FINISHED


def test_pursuit_drives_each_car_on_its_own_track():
    tracks = [blocks("SSSLSS"), blocks("SSSSRSSLSS")]
    alone = []
    for track in tracks:
        world = Simulator(track, num_cars=1)
        alone.append(drive(world, Pursuit(world.tracks, world.track_index))["race_time_ms"].item())
    world = Simulator(tracks, num_cars=16, seed=1)
    tracker = drive(world, Pursuit(world.tracks, world.track_index))
    assert set(world.track_index.tolist()) == {0, 1}
    assert tracker["race_time_ms"].tolist() == [alone[track] for track in world.track_index.tolist()]


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

        drive(world, watched, num_steps=400)
        seen[brakes] = chosen
    assert any(action >= 6 for action in seen[True]), "the sharp corner after a long straight asks for the brake"
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
