"""Greedy laps or episodes every so many frames; remembers the best."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase

from tm_torchrl.tasks.task import Row, Task
from tm_torchrl.trainers.training import Training


class Evaluate:
    """Evaluates the actor every ``every_frames`` frames and hands the rows on.

    Training does not notice: no random generator is moved.

    Args:
        task: judges.
        actor: is judged, greedily.
        num: laps on each track, or episodes.
        every_frames: between evaluations.
        seed: of the perturbed starts, the same every time.
        listeners: called with the training, the rows, and whether they are the best so far.
        target_score: stop once the task's score reaches it (its first number); ``None`` to go on.
    """

    def __init__(
        self,
        task: Task,
        actor: TensorDictModuleBase,
        *,
        num: int,
        every_frames: int,
        seed: int = 0,
        listeners: Sequence[Callable[[Training, list[Row], bool], None]] = (),
        target_score: float | None = None,
    ) -> None:
        if num < 1 or every_frames < 1:
            raise ValueError(f"num={num}, every_frames={every_frames}: both must be at least 1")
        self.task = task
        self.actor = actor
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
        """Evaluate if it is due, or if training is over."""
        if training.frames >= self._next:
            while self._next <= training.frames:
                self._next += self.every_frames
            self.evaluate(training)

    def evaluate(self, training: Training) -> list[Row]:
        """Evaluate now."""
        begin = time.process_time()
        with torch.random.fork_rng(devices=[]):
            rows = self.task.evaluate(self.actor, num=self.num, seed=self.seed)
        gc.collect()  # an environment refers to itself: several of them, with their megabytes, would wait for this
        training.evaluation_cpu_s += time.process_time() - begin
        for row in rows:
            row.update(
                frames=training.frames,
                seconds=training.seconds,
                cpu_s=training.cpu_s,
                updates=training.learner.num_updates,
            )
        self.rows = rows
        score = self.task.score(rows)
        is_best = self.best is None or score > self.best
        if is_best:
            self.best, self.best_rows = score, rows
        for listener in self.listeners:
            listener(training, rows, is_best)
        if self.target_score is not None and score[0] >= self.target_score:
            training.stop(f"the target of {self.target_score:g} was reached")
        return rows

    def state_dict(self) -> dict[str, Any]:
        """When the next one is due, and the best score."""
        return {"next": self._next, "best": None if self.best is None else list(self.best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._next = state["next"]
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
