"""Evaluations in a process of their own: the same rows as in this one, in order, and none lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensordict.nn import TensorDictModule

from tests.trainers.test_training import DRIVE, numbers, quiet
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.tasks.task import Row, TaskDefaults
from tm_torchrl.trainers.hooks.evaluate import Evaluate


class Weights(TaskDefaults):
    """Its score is the actor's weight; an evaluation takes ``pause_s``, and fails where the weight is 13."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s

    def evaluate(self, policy: TensorDictModule, *, num: int, seed: int) -> list[Row]:
        time.sleep(self.pause_s)
        (score,) = (value.item() for value in policy.parameters())
        if score == 13:
            raise RuntimeError("a lap that cannot be driven")
        return [{"score": score, "num": num, "seed": seed}]

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        return (rows[0]["score"], 0.0)


class Fake:
    """A training with one weight, which is the number of frames played."""

    def __init__(self, hook: Evaluate, task: Weights | None = None) -> None:
        self.task = Weights() if task is None else task
        self.actor = TensorDictModule(torch.nn.Linear(1, 1, bias=False), in_keys=["a"], out_keys=["b"])
        self.algorithm = SimpleNamespace(actor=self.actor, learner=SimpleNamespace(num_updates=0))
        self.frames, self.seconds, self.cpu_s, self.evaluation_cpu_s = 0, 0.0, 0.0, 0.0
        self.is_stopped, self.is_evaluating = False, False
        self.seen: list[tuple[float, float]] = []
        self.hook = hook
        hook.listeners.append(self.listen)
        hook.open(self, None)  # type: ignore[arg-type]

    @property
    def weight(self) -> float:
        return next(self.actor.parameters()).item()

    def listen(self, training: Any, rows: list[Row], is_best: bool) -> None:
        self.seen.append((rows[0]["frames"], self.weight))

    def play(self, frames: int) -> None:
        self.frames = frames
        with torch.no_grad():
            next(self.actor.parameters()).fill_(frames)
        self.hook.after_batch(self)  # type: ignore[arg-type]

    def stop(self, reason: str) -> None:
        self.is_stopped = True


@pytest.fixture
def make() -> Any:
    hooks: list[Evaluate] = []

    def made(**options: Any) -> Evaluate:
        hooks.append(Evaluate(every_frames=10, num=2, seed=5, **{"in_background": True, **options}))
        return hooks[-1]

    yield made
    for hook in hooks:
        hook.close()


Make = Callable[..., Evaluate]


def test_results_come_in_order_with_the_weights_of_their_frames(make: Make) -> None:
    training = Fake(make(), Weights(pause_s=0.2))
    for frames in (5, 10, 15, 20, 25):
        training.play(frames)
        assert training.weight == frames, "listeners left other weights behind"
    assert training.hook.finish(training)  # type: ignore[arg-type]
    assert training.seen == [(10, 10.0), (20, 20.0), (25, 25.0)]
    assert [training.hook.rows[0][name] for name in ("num", "seed")] == [2, 5]
    assert not training.hook.finish(training), "the last network is evaluated once"  # type: ignore[arg-type]


def test_training_goes_on_meanwhile(make: Make) -> None:
    training = Fake(make(), Weights(pause_s=1.0))
    training.hook.finish(training)  # type: ignore[arg-type]  # the process is there
    begin = time.perf_counter()
    training.play(10)
    assert time.perf_counter() - begin < 0.5
    assert training.hook.pending is not None


def test_a_pending_evaluation_is_saved_and_made_after_a_resume(make: Make) -> None:
    before = Fake(make(), Weights(pause_s=0.5))
    before.play(12)
    state = before.hook.state_dict()
    assert state["pending"]["frames"] == 12
    assert state["best_rows"] == []
    after = Fake(make())
    after.hook.load_state_dict(state)
    after.play(14)
    after.hook.finish(after)  # type: ignore[arg-type]
    assert after.seen == [(12, 12.0), (14, 14.0)]
    again = make()
    again.load_state_dict(after.hook.state_dict())
    assert again.best_rows == after.hook.best_rows and again.best_rows[0]["frames"] == 14


def test_a_process_that_ends_is_replaced_by_this_one(make: Make) -> None:
    said: list[str] = []
    training = Fake(make(log=said.append), Weights(pause_s=0.2))
    training.play(10)
    process = training.hook._process
    assert process is not None
    process._process.kill()
    training.play(20)
    training.hook.finish(training)  # type: ignore[arg-type]
    assert training.seen == [(10, 10.0), (20, 20.0)]
    assert len(said) == 1
    assert "in the training process" in said[0]


def test_an_error_of_the_evaluation_is_raised(make: Make) -> None:
    training = Fake(make())
    training.play(13)
    with pytest.raises(RuntimeError, match="a lap that cannot be driven"):
        training.hook.finish(training)  # type: ignore[arg-type]


def test_with_a_target_training_waits(make: Make) -> None:
    training = Fake(make(target_score=20), Weights(pause_s=0.1))
    training.play(10)
    assert not training.is_stopped
    training.play(20)
    assert training.is_stopped


def test_a_run_has_the_same_results_either_way_and_after_a_stop(tmp_path: Path) -> None:
    settings = [*DRIVE, "collector=single", "evaluation.every_frames=64", "env.evaluation_limits.race_s=0.5"]
    for name, is_background in (("here", "false"), ("apart", "true")):
        quiet([*settings, "total_frames=320", f"evaluation.in_background={is_background}"], tmp_path / name)
    parts = tmp_path / "parts"
    quiet([*settings, "total_frames=128", "evaluation.in_background=true"], parts)
    quiet([*settings, "total_frames=320", "evaluation.in_background=true", f"resume='{parts}'"], parts)

    def results(name: str) -> list[Row]:
        return [
            {key: value for key, value in row.items() if key not in ("seconds", "cpu_s")}
            for row in read_evaluations(tmp_path / name)
        ]

    assert len(results("here")) == 5
    assert results("apart") == results("here") == results("parts")
    assert numbers(tmp_path / "apart") == numbers(tmp_path / "here")
