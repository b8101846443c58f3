"""Hyperparameters of another library's learner in the suite: published ones, or those of ours in the same cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tm_torchrl.settings.schedules import Schedule, make_schedule


@dataclass(frozen=True)
class Pace:
    """Hyperparameters of a learner, for any library that has them.

    Args:
        learning_rate: Learning rate of Adam, by step.
        epsilon: Share of random actions, by step.
        gamma: Discount.
        num_fractions: Number of fractions in the loss.
        hidden_sizes: Sizes of the trunk's layers and, last, of the head's.
        num_envs: Number of environments side by side.
        capacity: Transitions in the replay buffer.
        learning_starts: Steps before the first update.
        batch_size: Transitions of an update.
        steps_per_update: Steps of all environments for one update.
        steps_per_batch: Steps of all environments between two rounds of updates.
        num_steps: Steps of the return.
        target_period: Updates between copies of the target network.
        adam_epsilon: Epsilon of Adam.
        clip_norm: Largest norm of gradients; ``None`` does not clip.
    """

    learning_rate: Schedule
    epsilon: Schedule
    gamma: float
    num_fractions: int
    hidden_sizes: tuple[int, ...]
    num_envs: int
    capacity: int
    learning_starts: int
    batch_size: int
    steps_per_update: int
    steps_per_batch: int
    num_steps: int
    target_period: int
    adam_epsilon: float = 1e-8
    clip_norm: float | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Pace:
        """Those of our trainer with these settings, as far as other libraries can take them.

        Target networks that follow slowly are copied instead, as often as it takes them to come most of the way. A
        discount that changes is taken at its end. Random actions are single ones.
        """
        replay, objective, target = settings["replay"], settings["objective"], settings["target_update"]
        loss, network = objective["loss"], objective["network"]
        gamma = make_schedule(settings["gamma"], name="gamma")
        return cls(
            learning_rate=make_schedule(settings["learning_rate"], name="learning_rate"),
            epsilon=make_schedule(settings["exploration"]["epsilon"], name="exploration.epsilon"),
            gamma=gamma(int(settings["total_frames"])),
            num_fractions=int(loss.get("num_fractions") or network["num_fractions"]),
            hidden_sizes=(*network["hidden_sizes"], network["head_size"]),
            num_envs=int(settings["env"].get("num_envs", 1)),
            capacity=int(replay["capacity"]),
            learning_starts=int(replay["learning_starts"]),
            batch_size=int(replay["batch_size"]),
            steps_per_update=max(1, round(replay["batch_size"] / replay["uses_per_transition"])),
            steps_per_batch=int(settings["collector"]["frames_per_batch"]),
            num_steps=int(replay["num_steps"]),
            target_period=int(target["period"]) if "period" in target else max(1, round(1 / target["tau"])),
            adam_epsilon=float(settings["optimizer"]["eps"]),
            clip_norm=settings["learner"]["clip_norm"],
        )
