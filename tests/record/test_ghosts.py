"""Laps that are kept by their keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tm_torchrl.evaluation.replays import replay
from tm_torchrl.record.ghosts import FILE, Ghost, ghost_of, save_ghost
from tm_torchrl.record.run_folder import RunFolder, read_lines
from tm_torchrl.sim import Simulator, Starts
from tm_torchrl.tracks import load_track

ROW = {"track": "oval", "frames": 8, "time_s": None, "actions": "04b", "block": 1, "start": "AACAPw=="}


@pytest.mark.parametrize("block", [1, 5])
def test_a_lap_is_driven_again_to_the_bit(tmp_path: Path, block: int) -> None:
    track = load_track("oval")
    world = Simulator(track, num_cars=1, seed=3, starts=Starts(jitter_m=0.5, jitter_speed=2.0))
    start = world.save()[0].numpy()
    actions = np.random.default_rng(0).integers(0, 12, (40, 5))
    actions = actions if block == 5 else actions[:, 0]
    driven = replay(world, actions, start=start)
    save_ghost(tmp_path, Ghost("oval", 512, None, actions, start))
    (row,) = read_lines(tmp_path / FILE)
    ghost = ghost_of(row)
    again = replay(Simulator(track, num_cars=1), ghost.actions, start=ghost.start)
    assert (again.rows == driven.rows).all()
    assert (tmp_path / FILE).stat().st_size < 1000


def test_laps_of_the_game_are_left_out(tmp_path: Path) -> None:
    save_ghost(tmp_path, Ghost("a01", 512, 20.0, np.zeros(3, np.int64), np.zeros(9, np.uint8)))
    assert not (tmp_path / FILE).exists()


def test_a_resumed_run_forgets_later_laps(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for frames in (100, 200, 300):
        save_ghost(tmp_path, Ghost("oval", frames, 20.0, np.zeros(3, np.int64), np.zeros(9, np.float32)))
    run.truncate_after(250)
    assert [row["frames"] for row in read_lines(tmp_path / FILE)] == [100, 200]


@pytest.mark.parametrize(
    "change",
    [
        {"track": 7}, {"frames": "8"}, {"time_s": "?"}, {"time_s": float("inf")}, {"actions": ""}, {"actions": "0c"},
        {"actions": 5}, {"actions": "0" * 400_000}, {"block": 3}, {"block": 5}, {"start": "A"}, {"start": None},
        {"start": "AAA="}, {"start": "A" * 20_000},
    ],
)  # fmt: skip
def test_damaged_rows_are_refused(change: dict[str, Any]) -> None:
    assert ghost_of(ROW).actions.tolist() == [0, 4, 11]
    with pytest.raises(ValueError, match=r"."):
        ghost_of({**ROW, **change})
