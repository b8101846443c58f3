"""How a foreign learner of the suite learns, where it is not as its own authors publish it: as ours do in that cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tm_torchrl.settings.schedules import Schedule, make_schedule


@dataclass(frozen=True)
class Pace:
    """Numbers of a learner, for any library that has them.

    Args:
        learning_rate: of Adam, at each step.
        epsilon: share of random actions, at each step.
        gamma: discount.
        num_fractions: of the loss.
        hidden_sizes: of the trunk; the last is the head's.
        num_envs: that play side by side.
        capacity: transitions in the replay buffer.
        learning_starts: steps without updates.
        batch_size: transitions of an update.
        steps_per_update: steps of all environments for one update.
        steps_per_batch: steps of all environments until the updates that are due by then are made.
        num_steps: of the return.
        target_period: updates between copies of the target network.
        adam_epsilon: of Adam.
        clip_norm: of gradients.
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
        """That of our trainer with these settings, as far as other libraries can take it.

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
