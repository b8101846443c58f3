"""Times by sector, and what is lost there on the author's lap."""

from __future__ import annotations

import numpy as np
import pytest

from tm_torchrl.evaluation.sectors import author_rows, gate_times, lost_to_author, sector_times
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.world.car_row import CAR_ROW


def test_gate_times_are_those_at_which_the_count_rises() -> None:
    rows = np.zeros((6, CAR_ROW.size), np.float32)
    rows[:, CAR_ROW.start("checkpoint_count")] = [0, 0, 1, 1, 2, 2]
    rows[:, CAR_ROW.start("last_checkpoint_time_ms")] = [0, 0, 9_510, 9_510, 20_030, 20_030]
    assert gate_times(rows) == [9.51, 20.03]
    assert sector_times(gate_times(rows)) == [9.51, 10.52]
    assert sector_times([]) == []


def test_what_a_lap_loses_on_the_author_is_told_by_sector() -> None:
    medals, rows = medals_of("oval"), author_rows("oval")
    assert medals is not None and rows is not None
    author_s = sector_times(gate_times(rows))
    assert len(author_s) > 1 and sum(author_s) == pytest.approx(medals.author_s)
    own_s = [author_s[0] + 0.31, author_s[1] - 0.02, *author_s[2:]]
    assert lost_to_author("oval", own_s) == [0.31, -0.02, *[0.0] * (len(author_s) - 2)]


@pytest.mark.parametrize(("name", "splits_s"), [("mine", [20.0]), ("oval", []), ("oval", [20.0])])
def test_without_an_author_or_the_same_gates_nothing_is_lost(name: str, splits_s: list[float]) -> None:
    assert lost_to_author(name, splits_s) is None
