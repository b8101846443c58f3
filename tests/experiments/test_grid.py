"""Several processes at a time, in order; processes are counters that end after some looks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tm_torchrl.experiments.grid import run_grid


class Looks:
    """A process that ends with status 0 at the second look."""

    def __init__(self) -> None:
        self.num = 0
        self.is_stopped = False

    def poll(self) -> int | None:
        self.num += 1
        return 0 if self.num == 2 else None

    def stop(self) -> int:
        self.is_stopped = True
        return 0


def test_cells_run_in_order_and_some_at_a_time() -> None:
    """Cell 1 has nothing to run; cell 2 is started again once, at once; never more than two run."""
    started, ended, most = [], [], []

    def start(cell: int) -> Looks | None:
        started.append(cell)
        return None if cell == 1 else Looks()

    def end(cell: int, status: int) -> bool:
        ended.append(cell)
        return cell == 2 and ended.count(2) == 1

    run_grid(range(5), start=start, ended=end, workers=2, watch=lambda running: most.append(len(running)), poll_s=0.0)
    assert started == [0, 1, 2, 2, 3, 4]
    assert sorted(ended) == [0, 2, 2, 3, 4]
    assert max(most) == 2


def test_an_interruption_stops_what_runs() -> None:
    processes = [Looks(), Looks()]

    def interrupt(running: Sequence[int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(
            [0, 1], start=lambda cell: processes[cell], ended=lambda *_: False, workers=2, watch=interrupt, poll_s=0.0
        )
    assert [process.is_stopped for process in processes] == [True, True]
