"""What a person reads while a run goes on."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path

import pytest
from rich.console import Console

from tm_torchrl.data.saving.checkpoint import Checkpoints
from tm_torchrl.record.run_folder import RunFolder, read_lines
from tm_torchrl.tasks.gymnasium import GymnasiumTask
from tm_torchrl.tasks.task import Task
from tm_torchrl.tasks.trackmania import TrackManiaTask
from tm_torchrl.trainers.hooks.display import Display
from tm_torchrl.trainers.training import Training

LAPS = (
    (None, None, "furthest 96 m"),
    (24.0, 26.0, "bronze"),
    (23.0, 23.5, "23.50 s █▁"),
)  # best, median, what is shown
PLACE = {"frames": 512, "seconds": 75.0}
VALUES = {"episode/return": -1.234, "episode/terminated": 0.25, "speed/updates_per_s": 88.0}


def state(task: Task, **changes: object) -> Training:
    numbers = {"total_frames": 1024, "frames": 512, "started_at": time.perf_counter() - 75.0, **changes}
    return Training(task=task, algorithm=None, source=None, **numbers)  # type: ignore[arg-type]


def shown(display: Display, training: Training) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(display.panel(training))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize(
    ("task", "numbers"),
    [
        (TrackManiaTask(track="oval"), "finished, exploring 25%  updates/s 88.0"),  # the return falls with longer laps
        (GymnasiumTask("CartPole-v1"), "return -1.23  updates/s 88.0"),  # there an episode ends with the pole's fall
    ],
)
def test_tracks_show_the_share_of_laps_and_other_tasks_the_return(task: Task, numbers: str) -> None:
    display = Display("run", console=Console(file=io.StringIO(), width=100))
    display.values = dict(VALUES)
    assert display.line(state(task)) == f"1:15        512 frames  {numbers}  1:15 left"
    assert ("finished, exploring" in shown(display, state(task))) == isinstance(task, TrackManiaTask)


def test_the_panel_tells_the_next_medal_the_folder_and_why_it_stops() -> None:
    display = Display("run", console=Console(file=io.StringIO(), width=100), is_quiet=True)
    display.folder = Path("runs/oval/a")
    row = {"track": "oval", "finish_rate": 0.5, "num_laps": 2, "progress_m": [12.0, 96.0], **PLACE}
    training = state(TrackManiaTask(track="oval"))
    for best_s, median_s, expected in LAPS:
        new = {"best_lap_s": best_s, "median_lap_s": median_s, "medal": "bronze"}
        display.evaluated(training, [{**row, **new}], True)
        assert expected in shown(display, training)
    assert "0.11 s to silver" in shown(display, training)
    assert "runs/oval/a" in shown(display, training)
    assert "Ctrl-C stops and saves" in shown(display, training)
    training.stop("it was interrupted")
    assert "stopping, it was interrupted: everything is saved" in shown(display, training)


def test_a_resumed_run_shows_its_results(tmp_path: Path) -> None:
    row = {"track": "oval", "finish_rate": 0.5, "num_laps": 2, "medal": "bronze", "laps": object(), **PLACE}
    training = state(TrackManiaTask(track="oval"))
    console = Console(file=io.StringIO(), width=100)
    before, after = (Display("run", console=console, is_quiet=True) for _ in range(2))
    for best_s, median_s in ((23.0, 26.0), (24.0, 23.5)):
        before.evaluated(training, [{**row, "best_lap_s": best_s, "median_lap_s": median_s}], True)
    Checkpoints(tmp_path).save(before.state_dict(), frames=512)
    after.load_state_dict(Checkpoints(tmp_path).load()[0])
    assert "23.50 s █▁" in shown(after, training) and "23.00 s" in shown(after, training)
    assert shown(after, training) == shown(before, training)


@pytest.mark.parametrize(("gone_s", "left"), [(9.0, None), (20.0, 30.0)])
def test_the_time_that_is_left_waits_for_ten_seconds_of_this_session(gone_s: float, left: float | None) -> None:
    """After the resume at frame 512, 256 of the 512 + 384 others took 20 s, so that 384 take 30 s."""
    numbers = {"frames": 768, "frames_before": 512, "total_frames": 1152, "seconds_before": 5000.0}
    training = state(TrackManiaTask(track="oval"), started_at=time.perf_counter() - gone_s, **numbers)
    found = Display("run", is_quiet=True)._left_s(training)
    assert found == (left if left is None else pytest.approx(left, rel=0.01))


def test_before_the_first_batch_the_panel_says_that_training_starts() -> None:
    training = state(TrackManiaTask(track="oval"), frames=0, started_at=None)
    display = Display("run", is_quiet=True)
    assert "starting; the time counts from the first batch" in shown(display, training)
    training.frames = 64
    assert "starting" not in shown(display, training)


def test_the_bar_knows_the_time_limit() -> None:
    training = state(TrackManiaTask(track="oval"), frames=10, max_minutes=2.5)
    assert training.share_done == pytest.approx(0.5, abs=0.01)
    assert state(TrackManiaTask(track="oval"), max_minutes=25.0).share_done == 0.5


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_an_output_that_breaks_ends_the_display_only(is_terminal: bool, caplog: pytest.LogCaptureFixture) -> None:
    training = state(TrackManiaTask(track="oval"))
    with Display("run", console=Console(file=Broken(), width=100, force_terminal=is_terminal)) as display:
        for _ in range(2):
            display.say("a message")
            display.after_batch(training)
            display.refresh(training)
    assert caplog.text.count("nothing more can be shown ([Errno 32] Broken pipe)") == 1


def test_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"track": "[Team] bad[/b]", "finish_rate": 0.0, "num_laps": 2, "best_lap_s": None, "median_lap_s": None}
    row |= PLACE
    display = Display("on [bold]", console=Console(file=io.StringIO(), width=100))
    training = state(TrackManiaTask(track="oval"))
    display.evaluated(training, [row], True)
    assert "[Team] bad[/b]: 0% of 2 laps" in display.console.file.getvalue()  # type: ignore[attr-defined]
    assert "[Team] bad[/b]" in shown(display, training) and "on [bold]" in shown(display, training)


def test_messages_are_kept_and_the_regular_lines_are_not(tmp_path: Path) -> None:
    display = Display("run", console=Console(file=io.StringIO(), width=100), every_s=0.0, is_quiet=True)
    display.say("before there is a folder")
    training = state(TrackManiaTask(track="oval"))
    display.open(training, RunFolder(tmp_path))
    display.is_quiet = False
    display.after_batch(training)
    display.say("a worker was started again")
    (row,) = read_lines(tmp_path / "messages.jsonl")
    assert (row["message"], round(row["seconds"])) == ("a worker was started again", 75)
    shutil.rmtree(tmp_path)
    display.say("the folder is gone, which ends no training")
