"""A training: its parts, how far it is, and its state as plain values."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from tm_torchrl.algorithms.exploration import ExploringPolicy
from tm_torchrl.algorithms.learner import Learner
from tm_torchrl.data.replay import Replay
from tm_torchrl.data.saving.architecture import refuse_other_architecture
from tm_torchrl.data.saving.random_state import random_state, restore_random_state
from tm_torchrl.evaluation import Diagnostics
from tm_torchrl.modules import QuantileActor
from tm_torchrl.settings.schedules import Schedule
from tm_torchrl.tasks.task import Task
from tm_torchrl.trainers.episodes import EpisodeStatistics


class Collector(Protocol):
    """Delivers batches of steps ``[N, T]``."""

    def __iter__(self) -> Any:
        """Batches."""
        ...

    def push_weights(self) -> None:
        """Let workers act with the present weights."""
        ...

    def set_frames(self, num_frames: int) -> None:
        """Let rewards on schedules follow the frames played."""
        ...

    def shutdown(self) -> None:
        """End workers."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Environments and carried-over steps."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...


class Hook(Protocol):
    """Looks at a training after every batch: logs, evaluates, saves."""

    def after_batch(self, training: Training) -> None:
        """Called when the updates of a batch are done."""
        ...


@dataclass
class Training:
    """Everything that ``train`` works with.

    Args:
        task: what is trained on.
        actor: the network that acts.
        policy: the actor with exploration.
        collector: drives.
        replay: remembers.
        learner: learns.
        schedules: setters by name, called with their schedule's value after every batch.
        total_frames: when it is over.
        max_minutes: when it is over at the latest, of training time; ``None`` for no limit.
        hooks: look at it after every batch.
        push_every: batches between pushes of weights to the workers.
        schedule_speed: of the reward's schedules, which environments follow by themselves.
    """

    task: Task
    actor: QuantileActor
    policy: ExploringPolicy
    collector: Collector
    replay: Replay
    learner: Learner
    schedules: Mapping[str, tuple[Schedule, Callable[[float], None]]]
    total_frames: int
    max_minutes: float | None = None
    hooks: list[Hook] = field(default_factory=list)
    push_every: int = 1
    schedule_speed: float = 1.0

    frames: int = 0
    num_batches: int = 0
    episodes: EpisodeStatistics = field(default_factory=EpisodeStatistics)
    losses: dict[str, Tensor] = field(default_factory=dict)
    is_stopped: bool = False
    stop_reason: str = ""
    seconds_before: float = 0.0
    frames_before: int = 0
    started_at: float = field(default_factory=time.perf_counter)
    cpu_before_s: float = 0.0
    cpu_started_at: float = field(default_factory=time.process_time)
    evaluation_cpu_s: float = 0.0
    busy_s: dict[str, float] = field(default_factory=lambda: {"collect": 0.0, "learn": 0.0, "watch": 0.0})
    scheduled: dict[str, float] = field(default_factory=dict)
    diagnostics: Diagnostics | None = None

    @property
    def seconds(self) -> float:
        """Since the start of training, over all its sessions, evaluations included."""
        return self.seconds_before + time.perf_counter() - self.started_at

    @property
    def cpu_s(self) -> float:
        """CPU seconds of this process since the start of training, over all its sessions, evaluations left out."""
        return self.cpu_before_s + time.process_time() - self.cpu_started_at - self.evaluation_cpu_s

    def set_schedules(self) -> None:
        """Set what follows the frames played."""
        self.scheduled = self.policy.set_frames(self.frames)
        for name, (schedule, apply) in self.schedules.items():
            self.scheduled[name] = schedule(self.frames)
            apply(self.scheduled[name])
        self.replay.set_frames(self.frames)
        self.collector.set_frames(round(self.frames / self.schedule_speed))

    def stop(self, reason: str) -> None:
        """End after this batch."""
        self.is_stopped, self.stop_reason = True, reason

    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        if not self.is_stopped and self.frames >= self.total_frames:
            self.stop(f"all {self.total_frames:,} frames were played")
        if not self.is_stopped and self.max_minutes is not None and self.seconds >= 60 * self.max_minutes:
            self.stop(f"{self.max_minutes:g} minutes are over")
        return self.is_stopped

    def state_dict(self) -> dict[str, Any]:
        """All but the replay's contents, as plain values."""
        return {
            "frames": self.frames,
            "num_batches": self.num_batches,
            "seconds": self.seconds,
            "cpu_s": self.cpu_s,
            "learner": self.learner.state_dict(),
            "actor": dict(self.actor.state_dict()),
            "policy": dict(self.policy.module.state_dict()),
            "replay": self.replay.state_dict(),
            "collector": self.collector.state_dict(),
            "episodes": self.episodes.state_dict(),
            "hooks": [hook.state_dict() if hasattr(hook, "state_dict") else {} for hook in self.hooks],
            "diagnostics": {} if self.diagnostics is None else self.diagnostics.state_dict(),
            "random": random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        refuse_other_architecture(self.actor, state["actor"])
        self.frames, self.num_batches = state["frames"], state["num_batches"]
        self.seconds_before, self.started_at = state["seconds"], time.perf_counter()
        self.cpu_before_s, self.cpu_started_at = state.get("cpu_s", 0.0), time.process_time()  # older ones have none
        self.evaluation_cpu_s = 0.0
        self.frames_before = self.frames
        self.learner.load_state_dict(state["learner"])
        self.policy.module.load_state_dict(state["policy"])
        self.replay.load_state_dict(state["replay"])
        self.episodes.load_state_dict(state["episodes"])
        for hook, saved in zip(self.hooks, state["hooks"] or [{}] * len(self.hooks), strict=True):  # none: imported
            if saved:
                hook.load_state_dict(saved)  # type: ignore[attr-defined]
        if state["diagnostics"]:
            self.diagnostics = Diagnostics(self.actor.quantile_module.network, state["diagnostics"]["inputs"])
            self.diagnostics.load_state_dict(state["diagnostics"])
        self.set_schedules()
        self.collector.load_state_dict(state["collector"])
        restore_random_state(state["random"])
