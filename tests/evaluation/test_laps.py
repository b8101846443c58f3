"""Laps: the author's lap has the author's time, and every started lap counts once."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tensordict.nn import TensorDictModule
from torch import Tensor

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.evaluation import Laps, drive_laps, evaluation_env
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.medals import author_actions, medals_of
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.drivers import Pursuit
from tm_torchrl.world.tracker import Limits


class Author:
    """Plays the author's inputs, one after the other, and stands still after them."""

    def __init__(self, track: str, slots: int | None = None) -> None:
        found = author_actions(track)
        assert found is not None
        self.actions, self.step, self.slots = found, 0, slots

    def __call__(self, observation: Tensor) -> Tensor:
        action = int(self.actions[self.step]) if self.step < len(self.actions) else 3
        self.step += 1
        shape = (len(observation),) if self.slots is None else (len(observation), self.slots)
        return torch.full(shape, action)


@pytest.mark.parametrize("block", [1, 5])
def test_the_authors_inputs_give_the_authors_time(block: int) -> None:
    medals = medals_of("oval")
    assert medals is not None
    env = TrackManiaEnv(2, track="oval", action_block=block, num_previous_actions=5)
    laps = drive_laps(env, Author("oval", None if block == 1 else block), num_laps=2)
    assert laps.times_s.tolist() == [medals.author_s] * 2
    assert (laps.medal, laps.medal_of_median, laps.finish_rate) == ("author", "author", 1.0)
    assert sum(laps.splits_s) == pytest.approx(medals.author_s)
    assert laps.lost_to_author_s == laps.summary()["lost_to_author_s"] == [0.0] * len(laps.splits_s)
    assert len(laps.rows) == len(laps.actions) + 1 == len(laps.observations) + 1
    assert json.loads(json.dumps(laps.summary()))["best_lap_s"] == medals.author_s


def test_cars_that_stand_do_not_finish() -> None:
    env = evaluation_env("oval", num_cars=3, limits=Limits(no_progress_s=0.5))
    laps = drive_laps(env, lambda seen: torch.full((len(seen),), 3), num_laps=3)
    assert laps.finish_rate == 0.0
    assert (laps.best_lap_s, laps.median_lap_s, laps.medal, laps.splits_s) == (None, None, None, [])
    assert laps.lost_to_author_s is None
    assert laps.summary()["end_causes"] == ["no_progress"] * 3
    assert (laps.progress_m < 20).all()


def test_more_laps_than_cars_are_driven_in_rounds() -> None:
    env = evaluation_env("oval", num_cars=2, limits=Limits(no_progress_s=0.2))
    laps = drive_laps(env, lambda seen: torch.full((len(seen),), 3), num_laps=5)
    assert len(laps.times_s) == len(laps.returns) == 5


def test_a_module_acts_greedily_and_sees_pixels() -> None:
    env = evaluation_env("oval", num_cars=2, pixels=True, limits=Limits(race_s=1.0))
    seen: list[torch.Size] = []

    def act(pixels: Tensor, observation: Tensor) -> Tensor:
        seen.append(pixels.shape)
        return torch.zeros(len(observation), dtype=torch.int64)

    policy = TensorDictModule(act, in_keys=["pixels", "observation"], out_keys=["action"])
    laps = drive_laps(env, policy, num_laps=2)
    assert set(seen) == {torch.Size([2, 1, 64, 64])}
    assert laps.summary()["end_causes"] == ["time_limit"] * 2
    assert len(laps.actions) == 20  # one second of 50 ms steps


def test_slow_laps_count_as_much_as_quick_ones() -> None:
    """Car 0 stands and is cut after half a second, car 1 drives for two: each is one lap of the two."""
    env = evaluation_env("oval", num_cars=2, limits=Limits(race_s=2.0, no_progress_s=0.5))
    laps = drive_laps(env, lambda seen: torch.tensor([3, 0]), num_laps=2)
    assert laps.summary()["end_causes"] == ["no_progress", "time_limit"]
    assert np.argmax(laps.progress_m) == 1


def test_medals_of_the_best_and_of_the_median() -> None:
    medals = medals_of("oval")
    assert medals is not None
    rows = np.zeros((1, 1))
    times = np.array([medals.bronze_s, medals.author_s, np.nan, medals.bronze_s + 1.0, medals.silver_s])
    laps = Laps(load_track("oval"), times, np.ones(5), rows[0], np.ones(5), times[:, None], np.zeros(5), *[rows] * 4)
    # Finished, in order: author, silver, bronze, none; the median lies half-way between silver and bronze.
    assert laps.median_lap_s == pytest.approx((medals.silver_s + medals.bronze_s) / 2)
    assert (laps.medal, laps.medal_of_median) == ("author", "bronze")
    assert laps.finish_rate == 0.8
    assert laps.summary()["lap_times_s"][2] is None


@pytest.mark.parametrize("slots", [None, 5])
def test_swaps_are_counted_and_traces_survive_a_reused_buffer(slots: int | None) -> None:
    """The policy writes 0, 1, 0, 1, ... into one tensor: each step differs from the one before."""
    shape = (2,) if slots is None else (2, slots)
    buffer = torch.ones(shape, dtype=torch.int64)

    def alternate(seen: Tensor) -> Tensor:
        return buffer.copy_(1 - buffer)

    env = evaluation_env("oval", num_cars=2, action_block=slots or 1, limits=Limits(race_s=0.5))
    laps = drive_laps(env, alternate, num_laps=2)
    expected = np.broadcast_to(np.arange(10) % 2 if slots is None else (np.arange(10) % 2)[:, None], (10, *shape[1:]))
    assert (laps.actions == expected).all()
    # Single actions: all 9 of 9 differ. Blocks of five: 9 of the 49 neighbours.
    assert laps.action_swaps.tolist() == pytest.approx([1.0 if slots is None else 9 / 49] * 2)


def test_starts_differ_by_centimetres_and_kilometres_per_hour() -> None:
    env = evaluation_env("oval", num_cars=64, seed=3)
    exact = TrackManiaEnv(1, track="oval").world.rows()
    rows, position, velocity = env.world.rows(), CAR_ROW["position"], CAR_ROW["velocity"]
    shift = (rows[:, position] - exact[:, position]).norm(dim=1)
    assert 0.02 < float(shift.max()) <= 0.05 * 2**0.5 + 1e-4  # up to 5 cm aside and 5 cm along
    speed = rows[:, velocity].norm(dim=1) * 3.6
    assert 2.5 < float(speed.max()) <= 3.6 + 1e-4
    assert len({tuple(row) for row in rows[:, position].tolist()}) == 64


def test_a_scripted_driver_finishes_from_perturbed_starts() -> None:
    env = evaluation_env("oval", num_cars=3)
    driver = Pursuit(env.world.tracks, env.world.track_index, boldness=0.7)
    laps = drive_laps(env, lambda seen: driver(env.world.rows(), env.race.tracker), num_laps=3)
    medals = medals_of("oval")
    assert medals is not None
    assert laps.finish_rate == 1.0
    assert len(set(laps.times_s.tolist())) > 1
    assert laps.best_lap_s == laps.times_s.min() > medals.author_s
    assert sum(laps.splits_s) == pytest.approx(laps.best_lap_s)
    best = int(laps.times_s.argmin())
    assert len(laps.actions) == int(np.ceil(laps.times_s[best] / 0.05))
    assert laps.checkpoint_times_s[best, -1] == laps.best_lap_s


def test_messages() -> None:
    env = evaluation_env("oval", num_cars=1)
    with pytest.raises(ValueError, match="num_laps=0"):
        drive_laps(env, Author("oval"), num_laps=0)
    with pytest.raises(ValueError, match="has 2 tracks"):
        drive_laps(TrackManiaEnv(2, tracks=["oval", "ring"]), Author("oval"), num_laps=1)
