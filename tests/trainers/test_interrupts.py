"""Signals stop a run where it can be resumed bit for bit, and what they want saved is saved first."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.test_training import DRIVE, numbers, quiet
from tm_torchrl.algorithms.learner import Learner
from tm_torchrl.data.saving.checkpoint import Checkpoints
from tm_torchrl.trainers.hooks.evaluate import Evaluate
from tm_torchrl.trainers.hooks.save import Save
from tm_torchrl.trainers.training import Training

SETTINGS = [*DRIVE, "collector=single", "replay.uses_per_transition=4", "total_frames=320"]


def after(number: int, act: Callable[[], object], method: Any) -> Any:
    """The method, which acts at its call of this number."""
    calls: list[int] = []

    def called(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            act()
        return method(*arguments, **options)

    return called


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def saved_frames(run: Path) -> int:
    return int(Checkpoints(run / "checkpoints").load()[1]["frames"])


def test_a_stop_between_two_updates_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of 64 frames has 16 updates; the 21st is in the middle of the second such batch."""
    quiet(SETTINGS, tmp_path / "whole")
    parts = tmp_path / "parts"
    with monkeypatch.context() as patched:
        patched.setattr("tm_torchrl.trainers.loop.PATIENCE_S", 0.0)
        patched.setattr(Learner, "update", after(21, terminate, Learner.update))
        quiet(SETTINGS, parts)
    state, _ = Checkpoints(parts / "checkpoints").load()
    assert state["is_learning"] and state["learner"]["num_updates"] == 21
    quiet([*SETTINGS, f"resume='{parts}'"], parts)
    assert numbers(parts) == numbers(tmp_path / "whole")


def test_updates_without_end_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tm_torchrl.trainers.loop.PATIENCE_S", 0.0)
    monkeypatch.setattr(Learner, "update", after(3, terminate, Learner.update))
    summary = quiet([*SETTINGS, "replay.uses_per_transition=4294967296"], tmp_path / "run")
    assert summary.reason == "it was interrupted" and saved_frames(tmp_path / "run") == summary.frames


def test_the_state_is_saved_before_the_last_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second signal comes while the state is saved, the third while it is evaluated."""
    run, found, handler = tmp_path / "run", [], signal.getsignal(signal.SIGTERM)
    finish = Evaluate.finish

    def interrupted(hook: Evaluate, training: Training) -> bool:
        found.append((saved_frames(run), training.frames, (run / "replay" / "train").is_dir()))
        monkeypatch.setattr("tm_torchrl.tasks.trackmania.TrackManiaTask.evaluate", lambda *a, **o: terminate())
        return finish(hook, training)

    monkeypatch.setattr(Learner, "update", after(3, terminate, Learner.update))
    monkeypatch.setattr(Save, "finish", after(1, terminate, Save.finish))
    monkeypatch.setattr(Evaluate, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quiet([*SETTINGS, "total_frames=100000", "evaluation.every_frames=100000"], run)
    [(saved, played, has_replay)] = found
    assert saved == played > 0 and has_replay
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no terminals that hang up")
def test_a_terminal_that_is_gone_stops_a_run_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hang_up = after(3, lambda: signal.raise_signal(signal.SIGHUP), Learner.update)
    monkeypatch.setattr(Learner, "update", hang_up)
    summary = quiet(SETTINGS, tmp_path / "run")
    assert summary.reason == "it was interrupted" and saved_frames(tmp_path / "run") == summary.frames < 320
