"""Direct preference optimisation (Rafailov et al. 2023), with pairs that are made while driving or from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tm_torchrl.algorithms.grpo import GroupedTask, GRPOAlgorithm
from tm_torchrl.algorithms.learner import PRECISIONS, Learner
from tm_torchrl.algorithms.ppo import Number, refuse_memory
from tm_torchrl.algorithms.recorded_laps import opened
from tm_torchrl.data.demonstrations.pair_file import PairFile
from tm_torchrl.data.demonstrations.recorded_pairs import RecordedPairs
from tm_torchrl.data.pairs import Pairs
from tm_torchrl.modules.policy_value import SamplingPolicy
from tm_torchrl.objectives.dpo import DIAGNOSTICS, DPOLoss
from tm_torchrl.objectives.reference import ReferenceUpdate
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.schedules import make_schedule
from tm_torchrl.tasks.task import Task


class DPOAlgorithm(GRPOAlgorithm):
    """Learning from pairs of episodes that began in the same state: the one with the greater return is preferred.

    Args:
        task: What is trained on.
        objective: ``network``, which makes a ``PolicyValueNetwork``; its value is not trained.
        pairs: Makes the memory.
        optimizer: Makes the optimiser of parameter groups.
        learner: Makes the learner.
        gamma: Discount of one step in the return of an episode.
        learning_rate: A number or a schedule.
        group_size: Episodes that begin in the same state.
        data: A file of pairs of recorded segments, which are learnt from instead, without driving; ``None`` for none.
            Frames count what is learnt from; of ``pairs`` only ``minibatch_size`` counts.
        segment_steps: Episodes are cut after so many steps in training; ``None`` for their own end.
        temperature: The paper's beta: the larger, the nearer the policy stays to the reference.
        per_step: Whether log-probabilities are averaged over the steps of an episode instead of summed.
        cloning_coefficient: Factor of a loss that imitates the preferred episodes; 0 for none.
        entropy_coefficient: Factor of the bonus for entropy, a number or a schedule.
        reference_period: Updates after which the reference becomes the present policy; ``None`` for never.
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
        pairs: Callable[..., Pairs],
        optimizer: Callable[..., torch.optim.Optimizer],
        learner: Callable[..., Learner],
        gamma: float,
        learning_rate: Number,
        group_size: int,
        data: str | Path | None = None,
        segment_steps: int | None = None,
        temperature: float = 0.1,
        per_step: bool = False,
        cloning_coefficient: float = 0.0,
        entropy_coefficient: Number = 0.01,
        reference_period: int | None = None,
        schedule_speed: float = 1.0,
        precision: str = "auto",
        device: torch.device | str = "cpu",
        seed: int = 0,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ConfigError(f"precision={precision!r}: must be auto, {' or '.join(PRECISIONS)}")
        if not isinstance(gamma, (int, float)):
            raise ConfigError(f"gamma={gamma}: must be a number; DPO has no schedule for it")
        self.env_maker: Any = GroupedTask(task, group_size=group_size, segment_steps=segment_steps)
        numbers = {"learning_rate": learning_rate, "entropy_coefficient": entropy_coefficient}
        self._scheduled = {
            name: make_schedule(value, name=name, speed=schedule_speed) for name, value in numbers.items()
        }
        self.actor = self.make_actor(task, objective=objective, device=device)
        refuse_memory(self.actor.network)
        self.policy = SamplingPolicy(self.actor)
        self.loss = DPOLoss(
            self.actor.network,
            in_keys=task.in_keys,
            temperature=temperature,
            per_step=per_step,
            cloning_coefficient=cloning_coefficient,
        )
        target = ReferenceUpdate(self.loss, period=reference_period)
        precision = "float32" if precision == "auto" else precision
        self.learner = learner(self.loss, optimizer, target=target, precision=precision)
        self.try_schedules()
        read: dict[str, Any] = {"kept_keys": task.in_keys, "diagnostics": DIAGNOSTICS, "seed": seed}
        driven = pairs(group_size=group_size, gamma=gamma, **read)
        self.memory = driven
        if data is not None:
            file = PairFile(data, partial(opened, task=task))
            self.memory = RecordedPairs(file, minibatch_size=driven.minibatch_size, device=device, **read)
            self.env_maker = NothingToDrive(data)
            log(f"{len(self.memory):,} pairs of segments from {len(file.folders)} folders")


class NothingToDrive:
    """Stands for the environments of a run that learns from a file: who asks for one is told to use the clock.

    Args:
        data: The file.
    """

    def __init__(self, data: str | Path) -> None:
        self.data = data

    def __getattr__(self, name: str) -> Any:
        raise ConfigError(f"data={self.data}: its pairs are learnt from without driving; use collector=clock")
