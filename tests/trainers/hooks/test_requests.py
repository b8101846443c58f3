"""What a training is asked for from outside happens after its batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tm_torchrl.record.requests import ask
from tm_torchrl.record.run_folder import RunFolder, read_evaluations
from tm_torchrl.trainers import train
from tm_torchrl.trainers.hooks.requests import Requests
from tm_torchrl.trainers.training import Training


class Calls:
    """Notes what is called."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.names.append(name)


@pytest.mark.parametrize(
    ("what", "called"), [("stop", ["stop"]), ("save", ["save", "save_replay"]), ("evaluate", ["ask"])]
)
def test_each_request_has_its_effect_once(tmp_path: Path, what: str, called: list[str]) -> None:
    calls: Any = Calls()
    hook = Requests(evaluate=calls, save=calls)
    hook.open(calls, RunFolder(tmp_path))
    ask(tmp_path, what)
    for _ in range(2):
        hook.after_batch(calls)
    assert calls.names == called


def test_requests_to_an_earlier_session_are_forgotten(tmp_path: Path) -> None:
    calls: Any = Calls()
    ask(tmp_path, "stop")
    hook = Requests(evaluate=calls, save=calls)
    hook.open(calls, RunFolder(tmp_path))
    hook.after_batch(calls)
    assert calls.names == []


def test_a_training_stops_and_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked to evaluate after the first batch and to stop after the third."""
    num_batches = SimpleNamespace(seen=0)
    after_batch = Requests.after_batch

    def asking(self: Requests, training: Training) -> None:
        num_batches.seen += 1
        for at, what in ((1, "evaluate"), (3, "stop")):
            if num_batches.seen == at:
                ask(self.folder, what)
        after_batch(self, training)

    monkeypatch.setattr(Requests, "after_batch", asking)
    settings = ["env=gym", "env.name=CartPole-v1", "total_frames=100000", "collector=single", "log.tensorboard=false"]
    summary = train([*settings, "evaluation.num=1"], folder=tmp_path / "run", is_quiet=True)
    frames = [row["frames"] for row in read_evaluations(tmp_path / "run")]
    batch = summary.frames // 3
    assert summary.reason == "it was interrupted"
    assert frames == [2 * batch, 3 * batch], "the one that was asked for, and that of the end"
    assert (tmp_path / "run" / "replay").is_dir(), "an interrupted run keeps its replay"
