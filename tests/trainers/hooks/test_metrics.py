"""Rows of metrics: when they are due, what they hold, and receivers that fail."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tm_torchrl.trainers.hooks.metrics import LogMetrics


class Sink:
    """Keeps rows; fails at some frames."""

    def __init__(self, *failing: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self.failing = failing

    def write(self, *, frames: int, seconds: float, values: dict[str, float]) -> None:
        if frames in self.failing:
            raise OSError("No space left on device")
        self.rows.append({"frames": frames, **values})


def training() -> Any:
    learner = SimpleNamespace(num_updates=0, num_samples=0)
    algorithm = SimpleNamespace(
        learner=learner, metrics=lambda: {"updates": 3.0}, measure=lambda: {"dormant_share": 0.5}
    )
    return SimpleNamespace(
        frames=0,
        seconds=0.0,
        algorithm=algorithm,
        source=SimpleNamespace(metrics=lambda: {"weights_age": 0.5}),
        losses={"loss": torch.tensor(2.0)},
        episodes=SimpleNamespace(means=lambda: {"return": 1.0}, num_episodes=4),
        scheduled={"epsilon": 0.1},
        busy_s={"collect": 0.0, "learn": 0.0, "watch": 0.0},
    )


def test_a_row_is_due_at_every_interval_however_large_the_batches_are() -> None:
    hook, sink, t = LogMetrics(every_frames=100), Sink(), training()
    hook.sinks.append(sink)
    for t.frames in (50, 120, 180, 450, 500):
        hook.after_batch(t)
    assert [row["frames"] for row in sink.rows] == [120, 450, 500]
    resumed = LogMetrics(every_frames=100, sinks=[sink])
    resumed.load_state_dict(hook.state_dict())
    for t.frames in (550, 600):
        resumed.after_batch(t)
    assert [row["frames"] for row in sink.rows] == [120, 450, 500, 600]


def test_a_row_holds_what_the_parts_say() -> None:
    hook, sink, t = LogMetrics(every_frames=1, diagnostics_every=2, sinks=[]), Sink(), training()
    hook.sinks.append(sink)
    for t.frames in (1, 2):
        hook.after_batch(t)
    first, second = sink.rows
    assert first["memory/rss_mb"] >= 0.0
    expected = {"train/loss": 2.0, "train/updates": 3.0, "collector/weights_age": 0.5, "episode/return": 1.0}
    assert expected.items() <= first.items() and first["schedule/epsilon"] == 0.1
    assert "diagnostics/dormant_share" not in first, "only every second row has diagnostics"
    assert second["diagnostics/dormant_share"] == 0.5


def test_speeds_are_those_since_the_row_before() -> None:
    """In 2 s: 300 frames, 10 updates with 640 samples, of which collection took 0.5 s and learning 1 s."""
    hook, sink, t = LogMetrics(every_frames=100), Sink(), training()
    hook.sinks.append(sink)
    t.frames, t.seconds = 100, 10.0
    hook.after_batch(t)
    t.frames, t.seconds, t.busy_s = 400, 12.0, {"collect": 0.5, "learn": 1.0, "watch": 0.0}
    t.algorithm.learner.num_updates, t.algorithm.learner.num_samples = 10, 640
    hook.after_batch(t)
    assert not any(key.startswith("speed/") for key in sink.rows[0])
    speeds = {key: value for key, value in sink.rows[1].items() if key.startswith("speed/")}
    assert speeds == {
        "speed/env_steps_per_s": 150.0,
        "speed/updates_per_s": 5.0,
        "speed/transitions_learnt_per_s": 320.0,
        "speed/collector_share": 0.25,
        "speed/learner_share": 0.5,
        "speed/watch_share": 0.0,
    }


def test_a_receiver_that_fails_is_told_once_until_it_works_again() -> None:
    messages: list[str] = []
    failing, working = Sink(1, 2, 4), Sink()
    hook, t = LogMetrics(every_frames=1, sinks=[failing, working], log=messages.append), training()
    for t.frames in (1, 2, 3, 4):
        hook.after_batch(t)
    assert len(messages) == 2, "at 1, and at 4 after it worked at 3"
    assert "No space left" in messages[0]
    assert [row["frames"] for row in failing.rows] == [3]
    assert [row["frames"] for row in working.rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["every_frames", "diagnostics_every"])
def test_wrong_intervals_are_named(name: str) -> None:
    options: dict[str, Any] = {"every_frames": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name}=0"):
        LogMetrics(**options)
