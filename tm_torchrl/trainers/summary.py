"""The result of a run, as an object and as text."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tm_torchrl.agents.agent import Agent
from tm_torchrl.invocation import command
from tm_torchrl.tasks.task import Row
from tm_torchrl.trainers.hooks.display import describe
from tm_torchrl.trainers.loop import INTERRUPTED


@dataclass
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
    """

    folder: Path
    agent: Agent
    frames: int
    seconds: float
    reason: str
    rows: list[Row] = field(default_factory=list)
    best_rows: list[Row] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def _more(summary: Summary) -> str:
    """The override that lets a resumed run train longer; empty if the run was interrupted."""
    settings = summary.settings
    if summary.frames >= settings["total_frames"]:
        return f" total_frames={2 * summary.frames}"
    minutes, target = settings["max_minutes"], settings["evaluation"]["target_score"]
    if minutes is not None and summary.seconds >= 60 * minutes:
        return f" max_minutes={2 * minutes:g}"
    return "" if target is None or summary.reason == INTERRUPTED else " evaluation.target_score=null"


def summary_text(summary: Summary) -> str:
    """The text that is shown at the end."""
    minutes = summary.seconds / 60
    lines = [f"Ended after {summary.frames:,} frames in {minutes:.1f} minutes: {summary.reason}."]
    lines += [f"  last:  {describe(row)}" for row in summary.rows]
    lines += [f"  best:  {describe(row)} (frame {row['frames']:,})" for row in summary.best_rows]
    whole = summary.folder.resolve()
    folder = whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole
    shown = shlex.quote(str(folder))
    resume = f"resume={folder}" if shown == str(folder) else f"resume='{folder}'"  # Hydra needs its own quotes
    lines += [
        f"Run folder: {whole}",
        f"  report:    {folder / 'report.html'}",
        f"  evaluate:  {command('evaluate')} {shown}",
        *([f"  watch:     {command('watch')} {shown}"] if "track" in summary.rows[0] else []),
        f"  continue:  {command('train')} {shlex.quote(resume)}{_more(summary)}",
    ]
    return "\n".join(lines)
