"""A grid of runs: several processes at a time, in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

Cell = TypeVar("Cell")


class Process(Protocol):
    """A run while it goes on; ``RunProcess`` is one."""

    def poll(self) -> int | None:
        """The exit status; ``None`` while it runs."""
        ...

    def stop(self) -> int:
        """Let the process save and end; returns its exit status."""
        ...


def run_grid(
    cells: Iterable[Cell],
    *,
    start: Callable[[Cell], Process | None],
    ended: Callable[[Cell, int], bool],
    workers: int = 1,
    watch: Callable[[Sequence[Cell]], None] = lambda running: None,
    poll_s: float = 0.2,
) -> None:
    """Run cells in their order; if this is interrupted, the processes that run are stopped.

    Args:
        cells: What is to be run.
        start: Starts the process of a cell; returns ``None`` if there is nothing to run.
        ended: Called with the exit status of a cell's process; returns whether the cell is started again.
        workers: Number of processes at a time.
        watch: Called with the cells that run, about every ``poll_s`` seconds.
        poll_s: Seconds between two looks at the processes.
    """
    waiting, running = deque(cells), list[tuple[Cell, Process]]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                cell = waiting.popleft()
                process = start(cell)
                if process is not None:
                    running.append((cell, process))
            for cell, process in list(running):
                status = process.poll()
                if status is not None:
                    process.stop()
                    running.remove((cell, process))
                    if ended(cell, status):
                        waiting.appendleft(cell)
            watch([cell for cell, _ in running])
            if running:
                time.sleep(poll_s)
    finally:
        for _, process in running:
            process.stop()
