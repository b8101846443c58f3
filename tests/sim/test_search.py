"""The lap search finds, improves and replays laps."""

from __future__ import annotations

import numpy as np
import pytest

from tm_torchrl.sim.search import LapSearch, replay_lap
from tm_torchrl.tracks import blocks


def test_search_beats_full_throttle_and_replays_exactly():
    track = blocks("SSSLSSRSS")
    search = LapSearch(track, num_cars=2048)
    lap = search.run_pass(None)
    assert lap is not None
    full_throttle = replay_lap(track, np.zeros(600, np.int8))
    assert full_throttle is None or lap.time_s < full_throttle.time_s
    again = replay_lap(track, lap.actions)
    assert again is not None
    assert again.time_s == lap.time_s
    assert len(lap.actions) == np.ceil(lap.time_s / 0.05 - 1e-6)
    better = search.run_pass(lap, hold=2)
    assert better is None or better.time_s < lap.time_s


def test_a_lap_that_does_not_finish_is_none():
    assert replay_lap(blocks("SSSLSS"), np.full(40, 3, np.int8)) is None


def test_too_few_cars():
    with pytest.raises(ValueError, match="num_cars=10: at least 80"):
        LapSearch(blocks("SS"), num_cars=10)
