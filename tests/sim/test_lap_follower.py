"""A driver that follows a lap finishes from other starts, where the lap's inputs alone do not."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor

from tm_torchrl.sim import Simulator, Starts
from tm_torchrl.sim.lap_follower import LapFollower
from tm_torchrl.sim.search import Lap, replay_lap
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.medals import shipped_lap
from tm_torchrl.world.actions import BACKWARD
from tm_torchrl.world.drivers import Replay, drive
from tm_torchrl.world.tracker import EndCause, Limits, Tracker

LIMITS = Limits(race_s=40.0)


@functools.cache
def author_lap() -> Lap:
    return shipped("oval", "author")


def shipped(name: str, which: str) -> Lap:
    lap = replay_lap(load_track(name), shipped_lap(name, which, option="which", advice=""))
    assert lap is not None
    return lap


def oval(num_cars: int, **options) -> Simulator:
    return Simulator(load_track("oval"), num_cars=num_cars, **options)


def results(world: Simulator, driver) -> tuple[np.ndarray, np.ndarray]:
    """Which cars finished, and their times."""
    *_, tracker = drive(world, driver, limits=LIMITS)
    return (tracker["end_cause"] == EndCause.FINISHED).numpy(), tracker["race_time_ms"].numpy() / 1000.0


def test_it_finishes_from_perturbed_starts_near_the_lap_s_time() -> None:
    starts = Starts(jitter_m=0.5, jitter_speed=2.0)
    finished, times = results(oval(8, starts=starts), Replay(author_lap().actions))
    assert not finished.all() or np.median(times) > 1.1 * author_lap().time_s  # the inputs alone are not enough
    world = oval(8, starts=starts)
    finished, times = results(world, LapFollower(world, author_lap()))
    assert finished.all()
    assert np.median(times) < 1.03 * author_lap().time_s


def test_it_takes_a_jump_at_the_lap_s_speed() -> None:
    # Plans of 0.3 s see the jump too late: cars come a little slower, land short and lose more than a second.
    world = Simulator(load_track("hillside"), num_cars=8, starts=Starts(jitter_m=0.5, jitter_speed=2.0), seed=5)
    record = shipped("hillside", "record")
    finished, times = results(world, LapFollower(world, record))
    assert finished.all() and np.median(times) < 1.015 * record.time_s


def test_from_the_line_it_keeps_to_the_lap() -> None:
    world = oval(1)
    finished, times = results(world, LapFollower(world, author_lap()))
    assert finished.all() and times[0] < 1.02 * author_lap().time_s


def test_it_comes_back_after_random_actions() -> None:
    world = oval(8)
    follower, random = LapFollower(world, author_lap()), np.random.default_rng(0)

    def disturbed(rows: Tensor, tracker: Tracker) -> Tensor:
        chosen, drawn = follower(rows, tracker), torch.from_numpy(random.integers(12, size=8))
        return torch.where(torch.from_numpy(random.random(8) < 0.1), drawn, chosen)

    finished, _ = results(world, disturbed)
    assert finished.mean() >= 0.75


def test_cars_that_stand_at_a_wall_reverse_and_drive_on() -> None:
    world = oval(8, starts=Starts(wall=1.0), seed=1)
    follower, limits = LapFollower(world, author_lap()), Limits(race_s=6.0, no_progress_s=6.0)
    begin, first = None, None
    for tracker in drive(world, follower, limits=limits):
        if begin is None:
            begin = tracker["progress_m"].clone()
            first = follower.costs(world.rows(), tracker)
    assert set(first.argmin(1).tolist()) & {BACKWARD, BACKWARD + 1, BACKWARD + 2}
    assert first[:, BACKWARD + 3 :].isinf().all()  # gas and brake together
    assert (tracker["progress_m"] - begin > 30.0).all()


def test_a_car_is_driven_the_same_beside_others() -> None:
    actions = []
    for num_cars in (1, 3):
        world = oval(num_cars, starts=Starts(zone=1.0), seed=5)
        follower, taken = LapFollower(world, author_lap()), []

        def noted(rows: Tensor, tracker: Tracker, follower=follower, taken=taken) -> Tensor:
            taken.append(follower(rows, tracker))
            return taken[-1]

        for _, _ in zip(range(40), drive(world, noted, limits=LIMITS), strict=False):
            pass
        actions.append([int(each[0]) for each in taken])
    assert actions[0] == actions[1]


def test_wrong_arguments_are_named() -> None:
    world = Simulator([load_track("oval"), load_track("ring")], num_cars=1)
    with pytest.raises(ValueError, match="world: has 2 tracks"):
        LapFollower(world, author_lap())
    with pytest.raises(ValueError, match="num_steps=0"):
        LapFollower(oval(1), author_lap(), num_steps=0)
