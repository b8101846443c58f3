"""A training: its parts, its progress, and its state as plain values."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tm_torchrl.algorithms.algorithm import Algorithm
from tm_torchrl.collectors.collector import Source
from tm_torchrl.data.saving.architecture import refuse_other_architecture
from tm_torchrl.data.saving.random_state import random_state, restore_random_state
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.tasks.task import Task
from tm_torchrl.trainers.episodes import EpisodeStatistics

INTERRUPTED = "it was interrupted"


class Hook:
    """Called after every batch to log, evaluate or save. Subclasses override the methods that they need."""

    def open(self, training: Training, run: RunFolder) -> None:
        """Called before the first batch."""

    def after_batch(self, training: Training) -> None:
        """Called after the updates of a batch."""

    def close(self) -> None:
        """Called at the end, also after an error."""

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run, as plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""


@dataclass
class Training:
    """The parts and the progress of a training.

    Args:
        task: What is trained on.
        algorithm: Acts, stores steps and learns.
        source: Delivers batches of steps.
        total_frames: Frames after which training ends.
        max_minutes: Minutes of training after which it ends at the latest; ``None`` for no limit.
        schedule_speed: Multiplies the frames of the reward's schedules, which environments follow by themselves.
        hooks: Called after every batch, in order.
    """

    task: Task
    algorithm: Algorithm
    source: Source
    total_frames: int
    max_minutes: float | None = None
    schedule_speed: float = 1.0
    hooks: list[Hook] = field(default_factory=list)

    frames: int = 0
    num_batches: int = 0
    episodes: EpisodeStatistics = field(default_factory=EpisodeStatistics)
    losses: dict[str, Tensor] = field(default_factory=dict)
    is_learning: bool = False  # the last batch is stored; its updates are not complete
    is_evaluating: bool = False
    is_stopped: bool = False
    stop_reason: str = ""
    seconds_before: float = 0.0
    frames_before: int = 0
    started_at: float | None = None  # the clock of this session runs from its first batch to the end of its last
    cpu_before_s: float = 0.0
    cpu_started_at: float = field(default_factory=time.process_time)
    evaluation_cpu_s: float = 0.0
    busy_s: dict[str, float] = field(default_factory=lambda: {"collect": 0.0, "learn": 0.0, "watch": 0.0})
    scheduled: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds of training over all its sessions, evaluations included, the start of the workers not."""
        return self.seconds_before + (0.0 if self.started_at is None else time.perf_counter() - self.started_at)

    def start_clock(self) -> None:
        """Let the seconds run, if they do not yet."""
        if self.started_at is None:
            self.started_at = time.perf_counter()

    def stop_clock(self) -> None:
        """Keep the seconds as they are."""
        self.seconds_before, self.started_at = self.seconds, None

    @property
    def cpu_s(self) -> float:
        """CPU seconds of this process since the start of training, over all its sessions, without evaluations."""
        return self.cpu_before_s + time.process_time() - self.cpu_started_at - self.evaluation_cpu_s

    def set_schedules(self) -> None:
        """Set everything that follows the frames played."""
        for name, (schedule, apply) in self.algorithm.schedules().items():
            self.scheduled[name] = schedule(self.frames)
            apply(self.scheduled[name])
        for name, schedule in self.task.schedules(speed=self.schedule_speed).items():
            self.scheduled[name] = schedule(self.frames)
        self.algorithm.memory.set_frames(self.frames)
        self.source.set_frames(round(self.frames / self.schedule_speed))

    def stop(self, reason: str) -> None:
        """End training after this batch."""
        self.is_stopped, self.stop_reason = True, reason

    @property
    def is_complete(self) -> bool:
        """Whether training has ended by its own limits, not by an interrupt."""
        return self.is_stopped and self.stop_reason != INTERRUPTED

    @property
    def share_done(self) -> float:
        """The share of the frames, or of ``max_minutes``, that is done, whichever is larger."""
        of_time = 0.0 if self.max_minutes is None else self.seconds / (60.0 * self.max_minutes)
        return min(1.0, max(self.frames / max(self.total_frames, 1), of_time))

    def is_over(self) -> bool:
        """Whether training has ended; stops it when all frames are played or the time is over."""
        if not self.is_stopped and self.frames >= self.total_frames:
            self.stop(f"all {self.total_frames:,} frames were played")
        if not self.is_stopped and self.max_minutes is not None and self.seconds >= 60 * self.max_minutes:
            self.stop(f"{self.max_minutes:g} minutes are over")
        return self.is_stopped

    def state_dict(self) -> dict[str, Any]:
        """Everything except the contents of the memory, as plain values."""
        algorithm = self.algorithm
        return {
            "frames": self.frames,
            "num_batches": self.num_batches,
            "is_learning": self.is_learning,
            "losses": {name: value.clone() for name, value in self.losses.items()},
            "seconds": self.seconds,
            "cpu_s": self.cpu_s,
            "learner": algorithm.learner.state_dict(),
            "actor": dict(algorithm.actor.state_dict()),
            "policy": dict(algorithm.policy.state_dict()),
            "memory": algorithm.memory.state_dict(),
            "algorithm": algorithm.state_dict(),
            "collector": self.source.state_dict(),
            "episodes": self.episodes.state_dict(),
            "hooks": [hook.state_dict() for hook in self.hooks],
            "random": random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        algorithm = self.algorithm
        refuse_other_architecture(algorithm.actor, state["actor"])
        self.frames, self.num_batches = state["frames"], state["num_batches"]
        self.is_learning, self.losses = state.get("is_learning", False), dict(state.get("losses", {}))  # new in 0.2
        self.seconds_before, self.started_at = state["seconds"], None
        self.cpu_before_s, self.cpu_started_at = state.get("cpu_s", 0.0), time.process_time()  # absent from older runs
        self.evaluation_cpu_s = 0.0
        self.frames_before = self.frames
        algorithm.actor.load_state_dict(state["actor"])
        algorithm.learner.load_state_dict(state["learner"])
        algorithm.policy.load_state_dict(state["policy"])
        algorithm.memory.load_state_dict(state["memory"] if "memory" in state else state["replay"])  # of older runs
        self.episodes.load_state_dict(state["episodes"])
        for hook, saved in zip(self.hooks, state["hooks"], strict=False):  # imports have none, older runs fewer
            if saved:
                hook.load_state_dict(saved)
        older = {"diagnostics": state.get("diagnostics", {})}
        algorithm.load_state_dict(state.get("algorithm", older))
        self.set_schedules()
        self.source.load_state_dict(state["collector"])
        restore_random_state(state["random"])
