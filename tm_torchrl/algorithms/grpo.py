"""Group relative policy optimisation (Shao et al. 2024), for tasks whose episodes can share their start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchrl.envs import EnvBase

from tm_torchrl.algorithms.learner import PRECISIONS, Learner
from tm_torchrl.algorithms.ppo import Number, PPOAlgorithm, refuse_memory
from tm_torchrl.data.groups import Groups
from tm_torchrl.envs.episode_groups import grouped
from tm_torchrl.modules.policy_value import SamplingPolicy
from tm_torchrl.objectives.clipped_policy import DIAGNOSTICS
from tm_torchrl.objectives.grpo import GRPOLoss
from tm_torchrl.objectives.reference import ReferenceUpdate
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.schedules import make_schedule
from tm_torchrl.tasks.task import Task

STARTS = ("equal", "mixed")
SEED_STRIDE = 1_000_000_007  # between the starts of two seeds, far from the seeds of evaluations


class GRPOAlgorithm(PPOAlgorithm):
    """On-policy learning without a critic: an episode is judged by its return against those of its group.

    Actor, schedules and minibatches are those of PPO.

    Args:
        task: What is trained on.
        objective: ``network``, which makes a ``PolicyValueNetwork``; its value is not trained.
        groups: Makes the memory.
        optimizer: Makes the optimiser of parameter groups.
        learner: Makes the learner.
        gamma: Discount of one step in the return of an episode.
        learning_rate: A number or a schedule.
        group_size: Episodes in a group.
        starts: ``"equal"``: the episodes of a group begin in the same state; ``"mixed"``: each in its own.
        segment_steps: Episodes are cut after so many steps in training; ``None`` for their own end.
        clip: Clipping of the ratio of probabilities, a number or a schedule.
        clip_high: Clipping above 1, where it is not the same.
        reference_coefficient: Factor of the divergence from a reference policy; 0 for none.
        reference_period: Updates after which the reference becomes the present policy; ``None`` for never.
        entropy_coefficient: Factor of the bonus for entropy, a number or a schedule.
        schedule_speed: Multiplies the frames of all schedules.
        precision: ``"float32"`` or ``"bfloat16"``; ``"auto"`` is float32.
        device: Device of the network.
        seed: Seeds the order of the minibatches.
        log: Takes messages.
    """

    def __init__(
        self,
        task: Task,
        *,
        objective: Mapping[str, Any],
        groups: Callable[..., Groups],
        optimizer: Callable[..., torch.optim.Optimizer],
        learner: Callable[..., Learner],
        gamma: float,
        learning_rate: Number,
        group_size: int,
        starts: str = "equal",
        segment_steps: int | None = None,
        clip: Number = 0.2,
        clip_high: float | None = None,
        reference_coefficient: float = 0.0,
        reference_period: int | None = None,
        entropy_coefficient: Number = 0.0,
        schedule_speed: float = 1.0,
        precision: str = "auto",
        device: torch.device | str = "cpu",
        seed: int = 0,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ConfigError(f"precision={precision!r}: must be auto, {' or '.join(PRECISIONS)}")
        if not isinstance(gamma, (int, float)):
            raise ConfigError(f"gamma={gamma}: must be a number; GRPO has no schedule for it")
        self.env_maker = GroupedTask(task, group_size=group_size, starts=starts, segment_steps=segment_steps)
        numbers = {"learning_rate": learning_rate, "clip": clip, "entropy_coefficient": entropy_coefficient}
        self._scheduled = {
            name: make_schedule(value, name=name, speed=schedule_speed) for name, value in numbers.items()
        }
        self.actor = self.make_actor(task, objective=objective, device=device)
        refuse_memory(self.actor.network)
        self.policy = SamplingPolicy(self.actor)
        self.loss: Any = GRPOLoss(
            self.actor.network,
            in_keys=task.in_keys,
            clip_high=clip_high,
            reference_coefficient=reference_coefficient,
        )
        target = ReferenceUpdate(self.loss, period=reference_period)
        precision = "float32" if precision == "auto" else precision
        self.learner = learner(self.loss, optimizer, target=target, precision=precision)
        self.try_schedules()
        self.memory: Any = groups(
            group_size=group_size, gamma=gamma, kept_keys=task.in_keys, diagnostics=DIAGNOSTICS, seed=seed
        )

    @torch.no_grad()
    def explain(self, observations: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """The probability of each action ``[T, A]``; for blocks the first slot's.

        Args:
            observations: ``[T, F]``.
            actions: ``[T]`` or ``[T, S]``.
        """
        found = super().explain(observations, actions)
        return {"action_probabilities": found["action_probabilities"]}


@dataclass(frozen=True)
class GroupedTask:
    """Makes the environments of a task with episodes in groups.

    Args:
        task: Makes the environments.
        group_size: Episodes in a group.
        starts: ``"equal"`` or ``"mixed"``.
        segment_steps: Episodes are cut after so many steps; ``None`` for their own end.
    """

    task: Task
    group_size: int
    starts: str = "equal"
    segment_steps: int | None = None

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"group_size={self.group_size}: must be at least 2; a return is compared with others")
        if self.starts not in STARTS:
            raise ValueError(f"starts={self.starts!r}: must be {' or '.join(STARTS)}")
        if self.segment_steps is not None and self.segment_steps < 1:
            raise ValueError(f"segment_steps={self.segment_steps}: must be at least 1, or null for the episode's end")
        if self.starts == "equal" and not self.task.can_be_copied:
            raise ValueError(
                f"starts='equal': {type(self.task).__name__} draws its starts by itself; use starts=mixed, with "
                "env.past_starts=0 all episodes begin in the same state anyway"
            )

    @property
    def num_envs(self) -> int:
        """The task's."""
        return self.task.num_envs

    @property
    def num_workers(self) -> int | None:
        """The task's."""
        return self.task.num_workers

    @property
    def longest_step_s(self) -> float:
        """The task's."""
        return self.task.longest_step_s

    def check_workers(self, workers: int, *, in_this_process: bool) -> None:
        """As the task does."""
        self.task.check_workers(workers, in_this_process=in_this_process)

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """An environment with copies ``first`` to ``first + num_envs - 1``; groups are filled within it."""
        return grouped(
            self.task.make_env(num_envs=num_envs, first=first, seed=seed, device=device),
            group_size=self.group_size,
            segment_steps=self.segment_steps,
            shares_starts=self.starts == "equal",
            first=first,
            stride=self.num_envs,
            seed=(seed + 1) * SEED_STRIDE,
        )
