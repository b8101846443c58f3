"""The result of a run, as an object and as text."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tm_torchrl.agents.agent import Agent
from tm_torchrl.invocation import command, quoted
from tm_torchrl.record.clock import clock
from tm_torchrl.record.run_folder import best_laps, load_time
from tm_torchrl.tasks.task import Row
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.trainers.hooks.display import describe, lap_text
from tm_torchrl.trainers.training import INTERRUPTED


@dataclass(repr=False)
class Summary:
    """The result of a run.

    Args:
        folder: The run folder.
        agent: The trained agent.
        frames: Frames played.
        seconds: Seconds of training.
        reason: Why it ended.
        rows: Results of the last evaluation.
        best_rows: Results of the best evaluation.
        settings: Settings of the run.
        problem: Why the end of the run could not be saved; empty if it was.
    """

    folder: Path
    agent: Agent
    frames: int
    seconds: float
    reason: str
    rows: list[Row] = field(default_factory=list)
    best_rows: list[Row] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    def __repr__(self) -> str:
        return f"Summary(folder={str(self.folder)!r}, frames={self.frames}, reason={self.reason!r})"

    def __str__(self) -> str:
        """The text that is shown at the end of a run, with commands that can be copied."""
        lines = [f"Ended after {self.frames:,} frames in {clock(self.seconds)}: {self.reason}."]
        has_track = bool(self.rows) and "track" in self.rows[0]
        why = "most laps finished, " if has_track else ""
        lines += [f"  last:    {describe(row)}" for row in self.rows]
        lines += [f"  best:    {describe(row)} ({why}frame {row['frames']:,})" for row in self.best_rows]
        lines += [f"  record:  {text}" for text in records(self.folder)]
        lines += [f"NOT SAVED: {self.problem}"] if self.problem else []
        whole = folder = self.folder
        with contextlib.suppress(OSError, ValueError):  # the working folder was deleted, or is another
            whole = folder = self.folder.absolute()
            folder = whole.relative_to(Path.cwd())
        lines += [
            f"Run folder: {whole} ({size_text(whole)})",
            f"  report:    {folder / 'report.html'}",
            f"  evaluate:  {command('evaluate')} {quoted(folder)}",
            *([f"  watch:     {command('watch')} {quoted(folder)}"] if has_track else []),
            f"  continue:  {command('train')} {quoted(f'resume={folder}')}{_more(self)}",
        ]
        return "\n".join(lines)


def records(folder: Path) -> list[str]:
    """The fastest lap of each track, with its medal."""
    found = []
    for track, path in best_laps(folder).items():
        time_s, medals = load_time(path), medals_of(track)
        medal = None if medals is None else medals.won_by(time_s)
        found.append(f"{track}: {lap_text(time_s)}" + (f", {medal} medal" if medal else ""))
    return found


def size_text(folder: Path) -> str:
    """What a run folder takes on the disk, and how much of it is the replay."""

    def megabytes(path: Path) -> float:
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6

    replay = megabytes(folder / "replay")
    return f"{megabytes(folder):.0f} MB" + (f", {replay:.0f} MB of it the replay" if replay >= 1 else "")


def _more(summary: Summary) -> str:
    """The override that lets a resumed run train longer; empty if the run was interrupted."""
    settings = summary.settings
    if summary.frames >= settings["total_frames"]:
        return f" total_frames={2 * summary.frames}"
    minutes, target = settings["max_minutes"], settings["evaluation"]["target_score"]
    if minutes is not None and summary.seconds >= 60 * minutes:
        return f" max_minutes={2 * minutes:g}"
    return "" if target is None or summary.reason == INTERRUPTED else " evaluation.target_score=null"
