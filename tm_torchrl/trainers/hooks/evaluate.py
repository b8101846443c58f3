"""Greedy laps or episodes at regular intervals, and which were the best."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.tasks.task import Row
from tm_torchrl.trainers.hooks.evaluation_actor import EvaluationActor
from tm_torchrl.trainers.hooks.evaluation_process import EvaluationProcess
from tm_torchrl.trainers.training import Hook, Training

RAY = "ray"
Listener = Callable[[Training, list[Row], bool], None]


@dataclass
class Snapshot:
    """An actor, and how far training was."""

    frames: int
    seconds: float
    cpu_s: float
    updates: int
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, training: Training) -> Snapshot:
        """The present actor, copied."""
        return cls(
            frames=training.frames,
            seconds=training.seconds,
            cpu_s=training.cpu_s,
            updates=training.algorithm.learner.num_updates,
            weights={name: value.clone() for name, value in training.algorithm.actor.state_dict().items()},
        )


class Evaluate(Hook):
    """Evaluates the actor every ``every_frames`` frames and passes the rows on.

    Evaluations do not change the training, since they use no random numbers of it. In the background, training goes on
    meanwhile; results come in the order of their frames, and listeners see the actor as it was evaluated.

    Args:
        every_frames: Frames between evaluations.
        num: Laps on each track, or episodes.
        seed: Seeds the perturbed starts, the same ones every time.
        target_score: Training stops when the task's score (its first number) reaches it; ``None`` for no target. With
            a target, training waits for each evaluation, so that it always stops at the same frame.
        in_background: Whether to evaluate in a process of its own, unless the task is a game; ``"ray"`` for a process
            of a Ray cluster.
        listeners: Called with the training, the rows, and whether they are the best so far.
        log: Takes messages.
    """

    def __init__(
        self,
        *,
        every_frames: int,
        num: int,
        seed: int = 0,
        target_score: float | None = None,
        in_background: bool | str = False,
        listeners: Sequence[Listener] = (),
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        for name, value in (("every_frames", every_frames), ("num", num)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        if not 0 <= seed < 2**31:
            raise ValueError(f"seed={seed}: must be between 0 and 2^31 - 1")
        if in_background not in (False, True, RAY):
            raise ValueError(f"in_background={in_background!r}: must be true, false or {RAY}")
        self.num = num
        self.every_frames = every_frames
        self.seed = seed
        self.listeners = list(listeners)
        self.target_score = target_score
        self.in_background = in_background
        self.log = log
        self.best: tuple[float, float] | None = None
        self.best_rows: list[Row] = []
        self.rows: list[Row] = []
        self.pending: Snapshot | None = None  # in evaluation, or to be evaluated next
        self._is_requested = self._is_asked = False
        self._next = every_frames
        self._process: EvaluationProcess | EvaluationActor | None = None

    def open(self, training: Training, run: RunFolder) -> None:
        """Decide where to evaluate."""
        if not training.task.can_be_copied:
            self.in_background = False
        if self.in_background == RAY:
            try:
                self._start_process(training)
            except (ValueError, ImportError) as error:  # no cluster, no Ray
                raise ConfigError(f"evaluation.in_background={RAY}: {error}") from error

    def after_batch(self, training: Training) -> None:
        """Pass on what has been evaluated, and evaluate if it is due."""
        try:
            self._receive(training, wait=False)
            if training.frames >= self._next or self._is_asked:
                self._is_asked = False
                while self._next <= training.frames:
                    self._next += self.every_frames
                self._receive(training, wait=True)  # the one before
                self._begin(training, wait=not self.in_background or self.target_score is not None)
        except KeyboardInterrupt:
            if not training.is_stopped:
                raise  # otherwise the run is saved now, and evaluated at its end

    def ask(self) -> None:
        """Evaluate after the next batch, besides the regular times."""
        self._is_asked = True

    def finish(self, training: Training) -> bool:
        """Evaluate the last network, after what is pending; returns whether there was anything to do."""
        was_pending = self.pending is not None
        self._receive(training, wait=True)
        if self.rows and self.rows[0]["frames"] == training.frames:
            return was_pending
        self._begin(training, wait=True)
        return True

    def _begin(self, training: Training, *, wait: bool) -> None:
        self.pending = Snapshot.of(training)
        if self.in_background:
            self._request(training)
        if wait:
            self._receive(training, wait=True)

    def _request(self, training: Training) -> None:
        assert self.pending is not None
        try:
            process = self._process or self._start_process(training)
            process.request(self.pending.weights)
            self._is_requested = True
        except (OSError, EOFError) as error:
            self._give_up(error)

    def _start_process(self, training: Training) -> EvaluationProcess | EvaluationActor:
        parts = training.task, training.algorithm.actor
        if self.in_background == RAY:
            self._process = EvaluationActor(*parts, num=self.num, seed=self.seed, log=self.log)
        else:
            self._process = EvaluationProcess(*parts, num=self.num, seed=self.seed)
        return self._process

    def _receive(self, training: Training, *, wait: bool) -> None:
        """Take the rows of the pending evaluation, if there is one, and pass them on."""
        if self.pending is None:
            return
        training.is_evaluating = wait  # an interrupt may break it off
        try:
            rows = self._rows(training, self.pending, wait=wait)
        finally:
            training.is_evaluating = False
        if rows is None:
            return
        snapshot, self.pending, self._is_requested = self.pending, None, False
        with weights_of(training.algorithm.actor, snapshot.weights):
            self._pass_on(training, snapshot, rows)

    def _rows(self, training: Training, snapshot: Snapshot, *, wait: bool) -> list[Row] | None:
        if self.in_background and not self._is_requested:  # of a resumed run
            self._request(training)
        if self._process is not None:
            try:
                return self._process.result(wait=wait)
            except (OSError, EOFError) as error:
                self._give_up(error)
        begin = time.process_time()
        with torch.random.fork_rng(devices=[]), weights_of(training.algorithm.actor, snapshot.weights):
            rows = training.task.evaluate(training.algorithm.actor, num=self.num, seed=self.seed)
        gc.collect()  # environments are in reference cycles and would keep megabytes until the next collection
        training.evaluation_cpu_s += time.process_time() - begin
        return rows

    def _give_up(self, error: Exception) -> None:
        self.log(f"the process that evaluates failed ({error}); evaluations go on in the training process")
        self.in_background = False
        self.close()

    def _pass_on(self, training: Training, snapshot: Snapshot, rows: list[Row]) -> None:
        progress = {name: value for name, value in vars(snapshot).items() if name != "weights"}
        for row in rows:
            row.update(progress)
        self.rows = rows
        score = training.task.score(rows)
        is_best = self.best is None or score > self.best
        if is_best:
            self.best, self.best_rows = score, rows
        for listener in self.listeners:
            listener(training, rows, is_best)
        if self.target_score is not None and score[0] >= self.target_score:
            training.stop(f"the target of {self.target_score:g} was reached")

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.close()
            self._process, self._is_requested = None, False

    def state_dict(self) -> dict[str, Any]:
        """The frame of the next evaluation, the best score, and the evaluation that goes on."""
        return {
            "next": self._next,
            "best": None if self.best is None else list(self.best),
            "best_rows": [{name: value for name, value in row.items() if name != "laps"} for row in self.best_rows],
            "pending": None if self.pending is None else asdict(self.pending),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._next = state["next"]
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
        self.best_rows = list(state.get("best_rows", []))  # absent from older runs
        pending = state.get("pending")  # new in 0.1
        self.pending = None if pending is None else Snapshot(**pending)


@contextmanager
def weights_of(actor: TensorDictModuleBase, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let an actor have other weights inside."""
    own = {name: value.clone() for name, value in actor.state_dict().items()}
    actor.load_state_dict(weights)
    try:
        yield
    finally:
        actor.load_state_dict(own)
