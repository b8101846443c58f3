"""A row of numbers every so many frames, to files, loggers and the screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from tm_torchrl.trainers.malloc import resident_mb
from tm_torchrl.trainers.training import Training


class MetricsSink(Protocol):
    """Takes rows: the run folder's files, TensorBoard, the screen."""

    def write(self, *, frames: int, seconds: float, values: Mapping[str, float]) -> None:
        """A row."""
        ...


class LogMetrics:
    """Writes a row of metrics every ``every_frames`` frames.

    Args:
        sinks: where rows go.
        every_frames: between rows.
        diagnostics: a function that measures the network; called for every ``diagnostics_every``-th row.
        diagnostics_every: rows between diagnostics.
        test_every: rows between tests of the loss on held-out transitions.
        log: for messages.
    """

    def __init__(
        self,
        sinks: Sequence[MetricsSink],
        *,
        every_frames: int,
        diagnostics: Any = None,
        diagnostics_every: int = 10,
        test_every: int = 1,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        if every_frames < 1:
            raise ValueError(f"every_frames={every_frames}: at least one frame lies between rows")
        self.sinks = list(sinks)
        self.every_frames = every_frames
        self.diagnostics = diagnostics
        self.diagnostics_every = diagnostics_every
        self.test_every = test_every
        self.log = log
        self.num_rows = 0
        self._failed: set[int] = set()
        self.last: dict[str, float] = {}
        self._next = every_frames
        self._before: dict[str, float] | None = None

    def after_batch(self, training: Training) -> None:
        """Write a row if one is due."""
        if training.frames < self._next:
            return
        while self._next <= training.frames:
            self._next += self.every_frames
        self.num_rows += 1
        values = self._measure(training)
        self.last = values
        for number, sink in enumerate(self.sinks):
            try:
                sink.write(frames=training.frames, seconds=training.seconds, values=values)
                self._failed.discard(number)
            except OSError as error:
                if number not in self._failed:
                    self.log(f"metrics could not be written: {error}; training goes on without them")
                self._failed.add(number)

    def _measure(self, training: Training) -> dict[str, float]:
        t = training
        values = {f"train/{name}": float(value) for name, value in t.losses.items()}
        values |= {
            "train/updates": float(t.learner.num_updates),
            "train/skipped_updates": float(t.learner.num_skipped),
            "train/replay_size": float(len(t.replay)),
        }
        if self.num_rows % self.test_every == 0 and (batch := t.replay.sample_test()) is not None:
            with torch.random.fork_rng(devices=[]):
                values["train/test_loss"] = float(t.learner.test(batch))
        values |= {f"episode/{name}": value for name, value in t.episodes.means().items()}
        values["episode/count"] = float(t.episodes.num_episodes)
        values |= {f"schedule/{name}": value for name, value in t.scheduled.items()}
        values |= self._speeds(t)
        values["memory/rss_mb"] = resident_mb()
        if self.diagnostics is not None and self.num_rows % self.diagnostics_every == 0:
            values |= {f"diagnostics/{name}": value for name, value in self.diagnostics(t).items()}
        return values

    def _speeds(self, t: Training) -> dict[str, float]:
        now = {"seconds": t.seconds, "frames": float(t.frames), "updates": float(t.learner.num_updates), **t.busy_s}
        before, self._before = self._before, now
        if before is None or now["seconds"] <= before["seconds"]:
            return {}
        gone = {name: now[name] - before[name] for name in now}
        seconds = gone["seconds"]
        return {
            "speed/env_steps_per_s": gone["frames"] / seconds,
            "speed/updates_per_s": gone["updates"] / seconds,
            "speed/transitions_learnt_per_s": gone["updates"] * t.replay.batch_size / seconds,
            "speed/collector_share": gone["collect"] / seconds,
            "speed/learner_share": gone["learn"] / seconds,
            "speed/watch_share": gone["watch"] / seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        """When the next row is due."""
        return {"next": self._next, "num_rows": self.num_rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._next, self.num_rows = state["next"], state["num_rows"]
