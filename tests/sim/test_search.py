"""The lap search finds, improves and replays laps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tm_torchrl.sim import Simulator
from tm_torchrl.sim.search import Guide, LapSearch, replay_lap
from tm_torchrl.tracks import blocks
from tm_torchrl.world.tracker import Tracker


def test_search_beats_full_throttle_and_replays_exactly():
    track = blocks("SSSLSSRSS")
    search = LapSearch(track, num_cars=2048)
    lap = search.run_pass(None)
    full_throttle = replay_lap(track, np.zeros(600, np.int8))
    assert full_throttle is None or lap.time_s < full_throttle.time_s
    again = replay_lap(track, lap.actions)
    assert again.time_s == lap.time_s
    assert len(lap.actions) == np.ceil(lap.time_s / 0.05 - 1e-6)
    better = search.run_pass(lap, hold=2)
    assert better is None or better.time_s < lap.time_s


def test_a_lap_that_does_not_finish_is_none():
    assert replay_lap(blocks("SSSLSS"), np.full(40, 3, np.int8)) is None


def test_too_few_cars():
    with pytest.raises(ValueError, match="num_cars=10"):
        LapSearch(blocks("SS"), num_cars=10)


def test_guide_knows_what_the_lap_did_at_each_place():
    track = blocks("SSSSSSSS")
    lap = replay_lap(track, np.tile(np.array([0, 3], np.int8), 200))
    guide = Guide(track, lap)
    world = Simulator(track, num_cars=1)
    tracker = Tracker(world)
    tracker.reset(world.reset(), torch.ones(1, dtype=torch.bool))
    for step, action in enumerate(lap.actions[:-1].tolist()):
        plan = guide.plans(tracker["progress_m"], torch.zeros(1, dtype=torch.int64), 2)
        if step >= 2:  # the first tick or two of a standing car do not move it along the line
            assert plan[0].tolist() == lap.actions[step : step + 2].tolist()
        world.step(torch.tensor([action]))
        tracker.update(torch.tensor([action]))


def test_a_guided_pass_improves_a_lap_more_than_an_unguided_one():
    track = blocks("SSSLSSRSSLSS")
    times = []
    for guided in (0.0, 0.5):
        search = LapSearch(track, num_cars=512, seed=1)
        best = search.run_pass(None)
        for _ in range(3):
            best = search.run_pass(best, guided=guided) or best
        times.append(best.time_s)
    assert times[1] < times[0]
