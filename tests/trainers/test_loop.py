"""The clock of a training runs from its first batch to the end of its last."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensordict import TensorDict

from tm_torchrl.tasks.trackmania import TrackManiaTask
from tm_torchrl.trainers.loop import run_loop
from tm_torchrl.trainers.training import Training

START_S = 0.5


class SlowToStart:
    """Workers that need half a second before their first batch of two frames."""

    def __iter__(self) -> Iterator[TensorDict]:
        time.sleep(START_S)
        done = torch.zeros(1, 2, 1, dtype=torch.bool)
        while True:
            yield TensorDict({"next": {"reward": torch.ones(1, 2, 1), "done": done, "terminated": done}}, [1, 2])

    def set_frames(self, frames: int) -> None:
        pass

    def push_weights(self) -> None:
        pass


@pytest.mark.parametrize("before_s", [0.0, 40.0], ids=["a new run", "a resumed run"])
def test_the_start_of_the_workers_takes_nothing_of_the_time_limit(before_s: float) -> None:
    nothing: Any = SimpleNamespace(set_frames=lambda frames: None, extend=lambda steps: None, batches=lambda: ())
    algorithm: Any = SimpleNamespace(schedules=dict, memory=nothing)
    source: Any = SlowToStart()
    limit_s = before_s + 0.2
    training = Training(
        task=TrackManiaTask(track="oval"),
        algorithm=algorithm,
        source=source,
        total_frames=10**9,
        max_minutes=limit_s / 60,
        seconds_before=before_s,
    )
    run_loop(training)
    assert training.num_batches > 1
    assert limit_s <= training.seconds < limit_s + START_S
    seconds = training.seconds
    time.sleep(0.01)
    assert training.seconds == seconds, "the clock has stopped"
