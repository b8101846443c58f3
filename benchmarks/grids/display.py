"""Progress of the suite: bars of the running cells in a terminal, lines elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tm_torchrl.experiments.run_process import RUN
from tm_torchrl.record.run_folder import read_evaluations, read_metrics

LOOK_EVERY_S = 2.0


def default_workers(grid: str) -> int:
    """One process for each core, since each has one thread; one alone where all would share a GPU.

    >>> default_workers("grid=gpu")
    1
    """
    return 1 if grid.endswith("gpu") else os.cpu_count() or 1


class SuiteDisplay:
    """Shows the progress of the suite.

    Args:
        console: Console to write to; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console() if console is None else console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._all: TaskID | None = None
        self._bars: dict[str, TaskID] = {}
        self._looked = 0.0

    def __enter__(self) -> SuiteDisplay:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def begin(self, *, done: int, skipped: int, open_cells: int) -> None:
        """Say how much there is to do."""
        self.say(f"{open_cells} cells to do, {done} done already, {skipped} skipped")
        self._all = self.progress.add_task("cells", total=done + open_cells, completed=done)

    def started(self, name: str, *, total_frames: int) -> None:
        """A cell has been started."""
        self.say(f"{name}: runs")
        self._bars[name] = self.progress.add_task(name, total=total_frames)

    def ended(self, name: str) -> None:
        """A cell has ended."""
        if name in self._bars:
            self.progress.remove_task(self._bars.pop(name))
        if self._all is not None:
            self.progress.advance(self._all)

    def show(self, folders: Mapping[str, Path]) -> None:
        """Move the bars of the running cells.

        Args:
            folders: Folders of the cells, by name.
        """
        if self.progress.disable or time.monotonic() - self._looked < LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        for name, folder in folders.items():
            rows = [*read_metrics(folder / RUN), *read_evaluations(folder / RUN)]
            if rows and name in self._bars:
                self.progress.update(self._bars[name], completed=max(row["frames"] for row in rows))
