"""The display of a training: a live panel in a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tm_torchrl.record.clock import clock
from tm_torchrl.record.run_folder import MESSAGES, RunFolder, append_line
from tm_torchrl.tasks.task import Row
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.trainers.training import Hook, Training

_LOG = logging.getLogger("tm_torchrl")
MEDAL_STYLES = {"author": "bold green", "gold": "bold yellow", "silver": "bold white", "bronze": "bold dark_orange3"}


class Display(Hook):
    """Shows a training.

    Args:
        title: Title of the panel.
        console: Where to show it; standard output by default.
        every_s: Seconds between lines where there is no terminal.
        is_quiet: Whether to show nothing.
    """

    def __init__(
        self, title: str, *, console: Console | None = None, every_s: float = 10.0, is_quiet: bool = False
    ) -> None:
        self.title = title
        console = Console() if console is None else console
        console.file = _Forgiving(console.file)  # type: ignore[assignment]
        self.console = console
        self.every_s = every_s
        self.is_quiet = is_quiet
        self.values: dict[str, float] = {}
        self.rows: list[Row] = []
        self.best: dict[str, tuple[float, str | None]] = {}
        self.medians: dict[str, list[float]] = {}
        self.folder: Path | None = None
        self._training: Training | None = None
        self._live: Live | None = None
        self._last = 0.0

    def __enter__(self) -> Display:
        if self.console.is_terminal and not self.is_quiet:
            self._live = Live(console=self.console, refresh_per_second=4, transient=False)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, message: str) -> None:
        """Show a message above the panel, and keep it in ``messages.jsonl`` of the run folder."""
        self.show(message)
        if self.folder is not None and self._training is not None:
            with contextlib.suppress(OSError):  # a full disk is told by the message itself
                append_line(self.folder / MESSAGES, {"seconds": round(self._training.seconds, 1), "message": message})

    def show(self, message: str) -> None:
        """Show a message above the panel, and keep it nowhere."""
        if not self.is_quiet:
            self.console.print(Text(message), soft_wrap=True)

    def open(self, training: Training, run: RunFolder) -> None:
        """Show the run folder from the start."""
        self.folder, self._training = run.path, training
        if self._live is None:
            self.show(f"run folder: {run.path}")

    def write(self, *, frames: int, seconds: float, values: Mapping[str, float]) -> None:
        """Receive a row of metrics."""
        self.values.update(values)

    def evaluated(self, training: Training, rows: list[Row], is_best: bool) -> None:
        """Receive the rows of an evaluation; without a panel each is shown as a line."""
        self.rows = rows
        for row in rows:
            lap, track = row.get("best_lap_s"), str(row.get("track", ""))
            if lap is not None and (track not in self.best or lap < self.best[track][0]):
                self.best[track] = (lap, row.get("medal"))
            if row.get("median_lap_s") is not None:
                self.medians.setdefault(track, []).append(row["median_lap_s"])
        if self._live is None:
            for row in rows:
                self.show(f"{clock(row['seconds'])}  {row['frames']:>9,} frames  {describe(row)}")

    def after_batch(self, training: Training) -> None:
        """Redraw when it is time."""
        if self.is_quiet:
            return
        now = time.perf_counter()
        if self._live is not None:
            if now - self._last >= 0.25:
                self._last = now
                self._live.update(self.panel(training))
        elif now - self._last >= self.every_s:
            self._last = now
            self.show(self.line(training))

    def state_dict(self) -> dict[str, Any]:
        """The results that the panel shows."""
        rows = [{name: value for name, value in row.items() if name != "laps"} for row in self.rows]
        best = {track: list(found) for track, found in self.best.items()}
        return {"rows": rows, "best": best, "medians": self.medians}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Show the results of a run that is resumed."""
        self.rows, self.medians = list(state["rows"]), dict(state["medians"])
        self.best = {track: (lap_s, medal) for track, (lap_s, medal) in state["best"].items()}

    def refresh(self, training: Training) -> None:
        """Redraw the panel now, if there is one."""
        if self._live is not None:
            self._live.update(self.panel(training), refresh=True)

    def line(self, training: Training) -> str:
        """The state in one line."""
        parts = [clock(training.seconds), f"{training.frames:>9,} frames"]
        parts += [f"{label} {text}" for label, text in self._numbers(training)]
        left = self._left_s(training)
        return "  ".join([*parts, "" if left is None else f"{clock(left)} left"]).rstrip()

    def panel(self, training: Training) -> Panel:
        """The state as a panel."""
        numbers = Table.grid(padding=(0, 2))
        for _ in range(4):
            numbers.add_column(justify="left")
        cells = [("frames", f"{training.frames:,} of {training.total_frames:,}"), ("time", clock(training.seconds))]
        left = self._left_s(training)
        cells.append(("left", "" if left is None else f"about {clock(left)}"))
        cells += self._numbers(training)
        for start in range(0, len(cells), 2):
            pair = cells[start : start + 2]
            numbers.add_row(*(part for label, text in pair for part in (Text(label, style="dim"), Text(text))))
        bar = Table.grid(expand=True)
        bar.add_row(ProgressBar(total=1.0, completed=training.share_done))
        parts: list[Any] = [bar, numbers, Text()]
        if self.rows:
            parts.append(self._results())
            if sectors := sector_text(self.rows):
                parts.append(Text(sectors, style="dim"))
        else:
            parts.append(Text("no evaluation yet", style="dim"))
        footer = "Ctrl-C stops and saves"
        if training.frames == training.frames_before:
            footer = f"starting; the time counts from the first batch. {footer}"
        if training.is_stopped:
            footer = f"stopping, {training.stop_reason}: everything is saved, then evaluated once more"
        parts += [Text(), Text(footer, style="dim")]
        subtitle = None if self.folder is None else Text(str(self.folder), style="dim")
        width = min(self.console.width, 92)
        return Panel(Group(*parts), title=Text(self.title), subtitle=subtitle, border_style="cyan", width=width)

    def _numbers(self, training: Training) -> list[tuple[str, str]]:
        """The last metrics as text: for tasks with a goal the share of episodes that reach it, else the return."""
        unwanted = "return" if training.task.has_goal else "finished, exploring"
        return [
            (label, f"{self.values[key]:{form}}")
            for label, key, form in _NUMBERS
            if key in self.values and label != unwanted
        ]

    def _results(self) -> Table:
        table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False)
        if "track" in self.rows[0]:
            for name in ("track", "finished", "median lap", "best lap", "medal", "next"):
                table.add_column(name, header_style="dim", justify="left")
            for row in self.rows:
                track = str(row["track"])
                best, medal = self.best.get(track, (None, None))
                style = MEDAL_STYLES.get(medal or "", "")
                table.add_row(
                    Text(track),
                    f"{row['finish_rate']:.0%} of {row['num_laps']}",
                    f"{lap_text(row['median_lap_s'])} {sparkline(self.medians.get(track, ()))}".rstrip(),
                    Text(lap_text(best), style=style),
                    Text(medal or "-", style=style),
                    next_goal(row, best),
                )
        elif "r2_mean" in self.rows[0]:
            table.add_column("linear probe, R\u00b2", header_style="dim")
            for name, value in probe_results(self.rows[0]).items():
                table.add_row(name, f"{value:.3f}")
        else:
            for name in ("task", "mean return", "least", "episodes"):
                table.add_column(name, header_style="dim")
            for row in self.rows:
                table.add_row(
                    Text(str(row["task"])),
                    f"{row['return_mean']:.1f}",
                    f"{row['return_min']:.1f}",
                    str(row["num_episodes"]),
                )
        return table

    def _left_s(self, training: Training) -> float | None:
        gone = training.seconds - training.seconds_before
        played = training.frames - training.frames_before
        if played <= 0 or gone < 10.0:  # before, a batch that took longer than others would count too much
            return None
        left = (training.total_frames - training.frames) * gone / played
        if training.max_minutes is not None:
            left = min(left, 60 * training.max_minutes - training.seconds)
        return max(0.0, left)


class _Forgiving:
    """A text file that is left alone once it cannot be written any more: the run goes on without it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write the text."""
        self._try(self._file.write, text)
        return len(text)

    def flush(self) -> None:
        """Write what is pending."""
        self._try(self._file.flush)

    def _try(self, act: Callable[..., object], *arguments: str) -> None:
        try:
            act(*arguments)
        except (OSError, ValueError) as error:
            is_output, self._file = self._file is sys.__stdout__, io.StringIO()
            if is_output:  # the interpreter writes the rest at its end
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, 1)
                os.close(nothing)
            _LOG.warning("nothing more can be shown (%s); training continues", error)


_NUMBERS = (
    ("return", "episode/return", ".2f"),
    ("finished, exploring", "episode/terminated", ".0%"),
    ("steps/s", "speed/env_steps_per_s", ",.0f"),
    ("updates/s", "speed/updates_per_s", ".1f"),
    ("loss", "train/loss", ".4g"),
    ("foretold", "train/test_accuracy", ".1%"),
    ("epsilon", "schedule/epsilon", ".3f"),
)


def next_goal(row: Row, best_s: float | None) -> str:
    """The time to the next medal, or the metres driven as long as no lap has finished.

    >>> next_goal({"track": "oval", "progress_m": [12.4, 96.2]}, None)
    'furthest 96 m'
    >>> next_goal({"track": "oval"}, 21.60), next_goal({"track": "oval"}, 20.0), next_goal({"track": "mine"}, 20.0)
    ('0.12 s to gold', '', '')
    """
    if best_s is None:
        return f"furthest {max(row['progress_m']):.0f} m" if row.get("progress_m") else ""
    medals = medals_of(row["track"])
    if medals is None:
        return ""
    times = {"bronze": medals.bronze_s, "silver": medals.silver_s, "gold": medals.gold_s, "author": medals.author_s}
    ahead = [(best_s - time_s, name) for name, time_s in times.items() if time_s < best_s]
    return "{:.2f} s to {}".format(*min(ahead)) if ahead else ""


def sector_text(rows: Sequence[Row]) -> str:
    """What the best lap of an evaluation on one track loses on the author's in each sector, in one line.

    >>> sector_text([{"track": "oval", "lost_to_author_s": [0.314, -0.02]}])
    'lost to the author by sector: +0.31 -0.02 s'
    >>> sector_text([{"track": "oval", "lost_to_author_s": None}]), sector_text([{"task": "CartPole-v1"}])
    ('', '')
    """
    lost_s = rows[0].get("lost_to_author_s") if len(rows) == 1 else None
    return f"lost to the author by sector: {' '.join(f'{each:+.2f}' for each in lost_s)} s" if lost_s else ""


def sparkline(values: Sequence[float], *, width: int = 12) -> str:
    """The last values as a small curve.

    >>> sparkline([3.0, 2.0, 1.0])
    '█▅▁'
    >>> sparkline([1.0])
    ''
    """
    last = list(values)[-width:]
    low, high = min(last, default=0.0), max(last, default=0.0)
    if low == high:
        return ""
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (value - low) / (high - low))] for value in last)


def lap_text(seconds: float | None) -> str:
    """A lap time, or a dash.

    >>> lap_text(27.631), lap_text(None)
    ('27.63 s', '-')
    """
    return "-" if seconds is None else f"{seconds:.2f} s"


def describe(row: Row) -> str:
    """The result of an evaluation in one line."""
    if "track" in row:
        medal = f", {row['medal']} medal" if row.get("medal") else ""
        return (
            f"{row['track']}: {row['finish_rate']:.0%} of {row['num_laps']} laps finished, "
            f"best {lap_text(row['best_lap_s'])}, median {lap_text(row['median_lap_s'])}{medal}"
        )
    if "r2_mean" in row:
        found = ", ".join(f"{name} {value:.3f}" for name, value in probe_results(row).items())
        return f"{row['task']}: R\u00b2 of a linear probe on held-out laps: {found}"
    return f"{row['task']}: mean return {row['return_mean']:.1f} over {row['num_episodes']} episodes"


def probe_results(row: Row) -> dict[str, float]:
    """What a linear probe has read, by name.

    >>> probe_results({"r2_mean": 0.5, "r2_lateral_offset": 0.5, "num_frames": 9})
    {'mean': 0.5, 'lateral offset': 0.5}
    """
    return {name[3:].replace("_", " "): value for name, value in row.items() if name.startswith("r2_")}
