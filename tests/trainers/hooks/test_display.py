"""What a person reads while a run goes on."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from tm_torchrl.tasks.gymnasium import GymnasiumTask
from tm_torchrl.tasks.task import Task
from tm_torchrl.tasks.trackmania import TrackManiaTask
from tm_torchrl.trainers.hooks.display import Display

VALUES = {"episode/return": -1.234, "episode/terminated": 0.25, "speed/updates_per_s": 88.0}


def state(task: Task) -> SimpleNamespace:
    counts = {"frames": 512, "total_frames": 1024, "frames_before": 0, "seconds": 75.0, "seconds_before": 0.0}
    return SimpleNamespace(task=task, max_minutes=None, **counts)


@pytest.mark.parametrize(
    ("task", "numbers"),
    [
        (TrackManiaTask(track="oval"), "return -1.23  finished 25%  updates/s 88.0"),
        (GymnasiumTask("CartPole-v1"), "return -1.23  updates/s 88.0"),  # there an episode ends with the pole's fall
    ],
)
def test_only_tracks_are_finished(task: Task, numbers: str) -> None:
    display = Display("run", console=Console(file=io.StringIO(), width=100))
    display.values = dict(VALUES)
    assert display.line(state(task)) == f"1:15        512 frames  {numbers}  1:15 left"  # type: ignore[arg-type]
    console = Console(file=io.StringIO(), width=100)
    console.print(display.panel(state(task)))  # type: ignore[arg-type]
    assert ("finished" in console.file.getvalue()) == isinstance(task, TrackManiaTask)  # type: ignore[attr-defined]
