"""Greedy laps or episodes at regular intervals, and which were the best."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tm_torchrl.tasks.task import Row
from tm_torchrl.trainers.training import Hook, Training

Listener = Callable[[Training, list[Row], bool], None]


class Evaluate(Hook):
    """Evaluates the actor every ``every_frames`` frames and passes the rows on.

    Evaluations do not change the training, since they use no random numbers of it.

    Args:
        every_frames: Frames between evaluations.
        num: Laps on each track, or episodes.
        seed: Seeds the perturbed starts, the same ones every time.
        target_score: Training stops when the task's score (its first number) reaches it; ``None`` for no target.
        listeners: Called with the training, the rows, and whether they are the best so far.
    """

    def __init__(
        self,
        *,
        every_frames: int,
        num: int,
        seed: int = 0,
        target_score: float | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        for name, value in (("every_frames", every_frames), ("num", num)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        if not 0 <= seed < 2**31:
            raise ValueError(f"seed={seed}: must be between 0 and 2^31 - 1")
        self.num = num
        self.every_frames = every_frames
        self.seed = seed
        self.listeners = list(listeners)
        self.target_score = target_score
        self.best: tuple[float, float] | None = None
        self.best_rows: list[Row] = []
        self.rows: list[Row] = []
        self._next = every_frames

    def after_batch(self, training: Training) -> None:
        """Evaluate if it is due."""
        if training.frames >= self._next:
            while self._next <= training.frames:
                self._next += self.every_frames
            try:
                self.evaluate(training)
            except KeyboardInterrupt:
                if not training.is_stopped:
                    raise  # otherwise the run is saved now, and evaluated at its end

    def evaluate(self, training: Training) -> list[Row]:
        """Evaluate now."""
        begin = time.process_time()
        training.is_evaluating = True  # an interrupt may break it off
        try:
            with torch.random.fork_rng(devices=[]):
                rows = training.task.evaluate(training.algorithm.actor, num=self.num, seed=self.seed)
        finally:
            training.is_evaluating = False
        gc.collect()  # environments are in reference cycles and would keep megabytes until the next collection
        training.evaluation_cpu_s += time.process_time() - begin
        for row in rows:
            row.update(
                frames=training.frames,
                seconds=training.seconds,
                cpu_s=training.cpu_s,
                updates=training.algorithm.learner.num_updates,
            )
        self.rows = rows
        score = training.task.score(rows)
        is_best = self.best is None or score > self.best
        if is_best:
            self.best, self.best_rows = score, rows
        for listener in self.listeners:
            listener(training, rows, is_best)
        if self.target_score is not None and score[0] >= self.target_score:
            training.stop(f"the target of {self.target_score:g} was reached")
        return rows

    def state_dict(self) -> dict[str, Any]:
        """The frame of the next evaluation, and the best score."""
        return {"next": self._next, "best": None if self.best is None else list(self.best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._next = state["next"]
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
