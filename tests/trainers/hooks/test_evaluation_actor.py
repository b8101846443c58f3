"""Evaluations in a simulated cluster: in order, by another actor where one dies or stands still, and none lost."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.collectors.test_supervised import needs_ray, posix
from tests.trainers.hooks.test_evaluate import Fake, Weights
from tm_torchrl.settings import ConfigError
from tm_torchrl.trainers.hooks import evaluation_actor
from tm_torchrl.trainers.hooks.evaluate import Evaluate


@pytest.fixture
def make(ray_cluster: Any) -> Iterator[Any]:
    """Makes trainings with evaluations on Ray that take ``pause_s``, and the messages."""
    hooks: list[Evaluate] = []

    def made(pause_s: float = 0.0) -> tuple[Any, list[str]]:
        messages: list[str] = []
        hooks.append(Evaluate(every_frames=10, num=2, seed=5, in_background="ray", log=messages.append))
        return Fake(hooks[-1], Weights(pause_s)), messages

    yield made
    for hook in hooks:
        hook.close()


Make = Callable[..., tuple[Any, list[str]]]


def process_of(training: Any) -> int:
    import ray

    return int(ray.get(training.hook._process._actor.is_there.remote()))


@needs_ray
@posix
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP])
def test_an_actor_that_dies_or_stands_still_is_replaced(
    kind: signal.Signals, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results stay in order, each with the weights of its frame."""
    training, messages = make(0.2)
    first = process_of(training)
    training.play(10)
    training.hook.finish(training)
    monkeypatch.setattr(evaluation_actor, "SILENCE_TIMEOUT_S", 2.0)
    os.kill(first, kind)
    for frames in (20, 30, 35):
        training.play(frames)
    training.hook.finish(training)
    assert training.seen == [(10, 10.0), (20, 20.0), (30, 30.0), (35, 35.0)]
    assert process_of(training) != first
    why = "ended.*killed or crashed" if kind == signal.SIGKILL else "does not answer for 2 s"
    assert len(messages) == 1
    assert re.search(rf"the actor that evaluates {why}\. Another one evaluates again\.", messages[0])


@needs_ray
@pytest.mark.parametrize("case", ["hangs", "has no room"])
def test_the_training_evaluates_where_no_actor_can(case: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "hangs":
        monkeypatch.setattr(evaluation_actor, "EVALUATION_TIMEOUT_S", 0.5)
        monkeypatch.setattr(evaluation_actor, "MAX_LOSSES", 1)
        why = "1 actors were lost; the last one has not ended an evaluation within 0.5 s"
    else:
        monkeypatch.setattr(evaluation_actor, "START_TIMEOUT_S", 1.0)
        monkeypatch.setattr(evaluation_actor, "RESOURCES", {"CPU": 100.0})
        why = "no actor has started within 1 s; the cluster has 4 of 4 CPU free"
    training, messages = make(2.0)
    training.play(10)
    training.hook.finish(training)
    assert training.seen == [(10, 10.0)]
    assert messages == [f"the process that evaluates failed ({why}); evaluations go on in the training process"]


@needs_ray
def test_an_error_of_the_evaluation_is_raised(make: Make) -> None:
    training, _ = make()
    training.play(13)
    with pytest.raises(RuntimeError, match="a lap that cannot be driven"):
        training.hook.finish(training)


def test_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="in_background='rya'"):
        Evaluate(every_frames=10, num=2, in_background="rya")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'in_background=ray: ray is not installed: pip install "tm_torchrl\[ray\]"'):
        Fake(Evaluate(every_frames=10, num=2, in_background="ray"))
