"""Rows of metrics for files, loggers and the display."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from tm_torchrl.record.loggers import make_loggers, require_loggers
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.trainers.malloc import resident_mb
from tm_torchrl.trainers.training import Hook, Training


class MetricsSink(Protocol):
    """Receives rows: the files of the run folder, TensorBoard, the display."""

    def write(self, *, frames: int, seconds: float, values: Mapping[str, float]) -> None:
        """Write a row."""
        ...


class LogMetrics(Hook):
    """Writes a row of metrics every ``every_frames`` frames: to the run folder, to loggers and to the display.

    Args:
        every_frames: Frames between rows.
        diagnostics_every: Rows between diagnostics of the network.
        tensorboard: Whether to write TensorBoard files.
        wandb: Name of a Weights & Biases project; ``None`` for none.
        mlflow: Name of an MLflow experiment; ``None`` for none.
        sinks: Further receivers of rows.
        log: Takes messages.
    """

    def __init__(
        self,
        *,
        every_frames: int,
        diagnostics_every: int = 10,
        tensorboard: bool = False,
        wandb: str | None = None,
        mlflow: str | None = None,
        sinks: Sequence[MetricsSink] = (),
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        for name, value in (("every_frames", every_frames), ("diagnostics_every", diagnostics_every)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        require_loggers(wandb=wandb, mlflow=mlflow)
        self.every_frames = every_frames
        self.diagnostics_every = diagnostics_every
        self._make_loggers = partial(make_loggers, tensorboard=tensorboard, wandb=wandb, mlflow=mlflow)
        self.sinks = list(sinks)
        self.loggers: list[Any] = []
        self.log = log
        self.num_rows = 0
        self._failed: set[int] = set()
        self.last: dict[str, float] = {}
        self._next = every_frames
        self._before: dict[str, float] | None = None

    def open(self, training: Training, run: RunFolder) -> None:
        """Open the loggers in the run folder."""
        self.loggers = self._make_loggers(run)
        self.sinks = [run.metrics, *self.loggers, *self.sinks]

    def close(self) -> None:
        """Close the loggers."""
        for logger in self.loggers:
            try:
                logger.close()
            except OSError as error:
                self.log(f"a logger could not be closed: {error}")

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
                    self.log(f"metrics could not be written: {error}; training continues without them")
                self._failed.add(number)

    def _measure(self, training: Training) -> dict[str, float]:
        t = training
        values = {f"train/{name}": float(value) for name, value in t.losses.items()}
        values |= {f"train/{name}": value for name, value in t.algorithm.metrics().items()}
        values |= {f"collector/{name}": value for name, value in t.source.metrics().items()}
        values |= {f"episode/{name}": value for name, value in t.episodes.means().items()}
        values["episode/count"] = float(t.episodes.num_episodes)
        values |= {f"schedule/{name}": value for name, value in t.scheduled.items()}
        values |= self._speeds(t)
        values["memory/rss_mb"] = resident_mb()
        if self.num_rows % self.diagnostics_every == 0:
            values |= {f"diagnostics/{name}": value for name, value in t.algorithm.measure().items()}
        return values

    def _speeds(self, t: Training) -> dict[str, float]:
        learner = t.algorithm.learner
        counts = {"frames": float(t.frames), "updates": learner.num_updates, "samples": learner.num_samples}
        now = {"seconds": t.seconds, **counts, **t.busy_s}
        before, self._before = self._before, now
        if before is None or now["seconds"] <= before["seconds"]:
            return {}
        gone = {name: now[name] - before[name] for name in now}
        seconds = gone["seconds"]
        return {
            "speed/env_steps_per_s": gone["frames"] / seconds,
            "speed/updates_per_s": gone["updates"] / seconds,
            "speed/transitions_learnt_per_s": gone["samples"] / seconds,
            "speed/collector_share": gone["collect"] / seconds,
            "speed/learner_share": gone["learn"] / seconds,
            "speed/watch_share": gone["watch"] / seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        """The frame of the next row, and the number of rows."""
        return {"next": self._next, "num_rows": self.num_rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._next, self.num_rows = state["next"], state["num_rows"]
