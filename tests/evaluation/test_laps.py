"""Laps: the author's own is exact, every started lap counts once."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tensordict.nn import TensorDictModule
from torch import Tensor

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.evaluation import drive_laps, evaluation_env
from tm_torchrl.tracks.medals import author_actions, medals_of
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
    assert (laps.medal, laps.finish_rate) == ("author", 1.0)
    assert sum(laps.splits_s) == pytest.approx(medals.author_s)
    assert len(laps.rows) == len(laps.actions) + 1 == len(laps.observations) + 1
    assert json.loads(json.dumps(laps.summary()))["best_lap_s"] == medals.author_s


def test_cars_that_stand_do_not_finish() -> None:
    env = evaluation_env("oval", num_cars=3, limits=Limits(no_progress_s=0.5))
    laps = drive_laps(env, lambda seen: torch.full((len(seen),), 3), num_laps=3)
    assert laps.finish_rate == 0.0
    assert (laps.best_lap_s, laps.median_lap_s, laps.medal, laps.splits_s) == (None, None, None, [])
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


def test_messages() -> None:
    env = evaluation_env("oval", num_cars=1)
    with pytest.raises(ValueError, match="num_laps=0"):
        drive_laps(env, Author("oval"), num_laps=0)
    with pytest.raises(ValueError, match="it has 2 tracks"):
        drive_laps(TrackManiaEnv(2, tracks=["oval", "ring"]), Author("oval"), num_laps=1)
