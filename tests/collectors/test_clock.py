"""A clock counts frames and plays nothing."""

from __future__ import annotations

import itertools

import pytest
from tensordict.nn import TensorDictModule
from torch import nn

from tm_torchrl.collectors import Clock
from tm_torchrl.tasks import TrackManiaTask
from tm_torchrl.trainers.episodes import EpisodeStatistics


def clock(**options: int) -> Clock:
    return Clock(TrackManiaTask(track="oval", num_envs=1), TensorDictModule(nn.Identity(), ["a"], ["b"]), **options)


def test_batches_have_a_number_of_frames_and_no_episodes() -> None:
    statistics = EpisodeStatistics()
    for batch in itertools.islice(clock(frames_per_batch=7), 3):
        assert batch.numel() == 7
        statistics.add(batch)
    assert statistics.means() == {}


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="frames_per_batch=0"):
        clock(frames_per_batch=0)
