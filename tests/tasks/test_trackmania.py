"""Tracks of the simulator's task."""

from __future__ import annotations

from typing import Any

import pytest

from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.sim import Starts
from tm_torchrl.tasks import TrackManiaTask
from tm_torchrl.tasks.task import make_task


def test_held_out_tracks_are_none_of_the_training_ones() -> None:
    task = make_task(compose_settings(["env.generated_tracks=2", "env.blind_generated_tracks=2"]))
    assert sorted(task._tracks) == ["generated-0", "generated-1"]
    assert sorted(task._blind) == ["generated-10000", "generated-10001"]
    with pytest.raises(ConfigError, match=r"env\.blind_generated_tracks=-1"):
        make_task(compose_settings(["env.blind_generated_tracks=-1"]))


def test_a_label_is_the_track_or_the_number_of_tracks() -> None:
    assert TrackManiaTask(track="oval").label == "oval"
    assert TrackManiaTask(tracks=["oval", "ring", "oval"]).label == "2-tracks"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"track": "oval", "tracks": ["oval"]}, "track, tracks, generated_tracks: exclude each other"),
        ({"tracks": "oval"}, "tracks='oval': must be a list"),
        ({"tracks": []}, r"tracks=\[\]"),
        ({"num_envs": 0}, "num_envs=0"),
        ({"generated_tracks": -1}, "generated_tracks=-1"),
        ({"pixels": False, "floats": False}, "pixels=false, floats=false"),
        ({"action_block": 3}, "action_block=3"),
        ({"generated_tracks": 1, "starts": Starts(lap=0.1)}, "laps='author': track 'circuit-0' has no author lap"),
    ],
)
def test_a_wrong_argument_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrackManiaTask(**given)
