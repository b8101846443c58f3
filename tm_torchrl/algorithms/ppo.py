"""Proximal policy optimisation (Schulman et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from tm_torchrl.algorithms.algorithm import Schedules
from tm_torchrl.algorithms.learner import PRECISIONS, Learner
from tm_torchrl.data.rollouts import Rollouts
from tm_torchrl.modules.policy_value import PolicyActor, PolicyValueNetwork, SamplingPolicy
from tm_torchrl.objectives.clipped_policy import DIAGNOSTICS
from tm_torchrl.objectives.ppo import PPOLoss
from tm_torchrl.settings.construct import ConfigError, refuse_given
from tm_torchrl.settings.schedules import make_schedule
from tm_torchrl.tasks.task import Task

Number = float | Sequence[Any]
STATES_AT_ONCE = 4096  # whose values are computed in one pass


def refuse_memory(network: Any) -> None:
    """Raise for a network with memory, where an algorithm learns from single steps.

    Args:
        network: A ``PolicyValueNetwork`` or a quantile network.
    """
    if network.core is not None:
        core = type(network.core).__name__
        raise ConfigError(
            f"objective.network.core={core}: this algorithm learns from single steps, which train no memory; use null, "
            "algorithm=ppo, or algorithm=quantile replay=sequences"
        )


class PPOAlgorithm:
    """On-policy learning from rollouts, in a few epochs of clipped updates.

    Any collector will do: steps that an older policy collected are corrected for by their stored log-probabilities.

    Args:
        task: What is trained on.
        objective: ``network``, which makes a ``PolicyValueNetwork``.
        rollouts: Makes the memory.
        optimizer: Makes the optimiser of parameter groups.
        learner: Makes the learner.
        gamma: Discount of one step.
        learning_rate: A number or a schedule.
        clip: Clipping of the ratio of probabilities, a number or a schedule.
        clip_value: Clipping of the value around the value before the updates; ``None`` for none.
        value_coefficient: Factor of the value's loss.
        entropy_coefficient: Factor of the bonus for entropy, a number or a schedule.
        normalize_advantage: Whether the advantages of each minibatch are normalised.
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
        rollouts: Callable[..., Rollouts],
        optimizer: Callable[..., torch.optim.Optimizer],
        learner: Callable[..., Learner],
        gamma: float,
        learning_rate: Number,
        clip: Number = 0.2,
        clip_value: float | None = None,
        value_coefficient: float = 0.5,
        entropy_coefficient: Number = 0.01,
        normalize_advantage: bool = True,
        schedule_speed: float = 1.0,
        precision: str = "auto",
        device: torch.device | str = "cpu",
        seed: int = 0,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ConfigError(f"precision={precision!r}: must be auto, {' or '.join(PRECISIONS)}")
        if isinstance(gamma, Sequence):
            raise ConfigError(f"gamma={gamma}: must be a number; PPO has no schedule for it")
        numbers = {"learning_rate": learning_rate, "clip": clip, "entropy_coefficient": entropy_coefficient}
        self._scheduled = {
            name: make_schedule(value, name=name, speed=schedule_speed) for name, value in numbers.items()
        }
        self.actor = self.make_actor(task, objective=objective, device=device)
        self.policy = SamplingPolicy(self.actor)
        self.loss = PPOLoss(
            self.actor.network,
            in_keys=self.actor.in_keys,
            clip_value=clip_value,
            value_coefficient=value_coefficient,
            normalize_advantage=normalize_advantage,
        )
        precision = "float32" if precision == "auto" else precision
        self.learner = learner(self.loss, optimizer, target=None, precision=precision)
        self.try_schedules()
        self.memory = rollouts(
            gamma=gamma,
            kept_keys=task.in_keys,
            memory_key=next(iter(self.actor.carried_keys), None),
            values=self.values,
            diagnostics=DIAGNOSTICS,
            seed=seed,
        )

    @staticmethod
    def make_actor(task: Task, *, objective: Mapping[str, Any], device: torch.device | str = "cpu") -> PolicyActor:
        """The network as an actor.

        Args:
            task: Says what the network reads and decides.
            objective: ``network``.
            device: Device of the network.
        """
        arguments = task.network_arguments()
        refuse_given(objective["network"], arguments, name="objective.network")
        network = objective["network"](**arguments)
        if not isinstance(network, PolicyValueNetwork):
            raise ConfigError(
                f"objective.network={type(network).__name__}: must be a PolicyValueNetwork; objective= chooses among "
                "the quantile networks of algorithm=quantile, so leave it out"
            )
        return PolicyActor(network, in_keys=task.in_keys).to(device)

    def schedules(self) -> Schedules:
        """Learning rate, clipping and factor of the entropy."""
        setters: dict[str, Callable[[float], Any]] = {
            "learning_rate": partial(setattr, self.learner, "learning_rate"),
            "clip": partial(setattr, self.loss, "clip"),
            "entropy_coefficient": partial(setattr, self.loss, "entropy_coefficient"),
        }
        return {name: (schedule, setters[name]) for name, schedule in self._scheduled.items()}

    def try_schedules(self) -> None:
        """Raise for a scheduled value that cannot be."""
        for schedule, apply in self.schedules().values():
            for _, value in schedule.points:
                apply(value)

    @torch.no_grad()
    def values(self, states: TensorDictBase) -> Tensor:
        """The values ``[F, 1]`` of states ``[F]``."""
        with self.learner.autocast():
            parts = [
                self.actor.network.values(*(part.get(key) for key in self.actor.in_keys))
                for part in states.split(STATES_AT_ONCE)
            ]
        return torch.cat(parts)

    def metrics(self) -> dict[str, float]:
        """Counts of updates; divergence, clipped share, entropy and explained variance of the last rollout."""
        return {
            "updates": float(self.learner.num_updates),
            "skipped_updates": float(self.learner.num_skipped),
            **self.memory.metrics(),
        }

    def measure(self) -> dict[str, float]:
        """Nothing takes longer than ``metrics``."""
        return {}

    @torch.no_grad()
    def explain(self, observations: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """The value of each state ``[T]`` and the probability of each action ``[T, A]``; for blocks the first slot's.

        Args:
            observations: ``[T, F]``.
            actions: ``[T]`` or ``[T, S]``.
        """
        device = next(self.actor.parameters()).device
        key = self.actor.in_keys[0]
        seen = self.actor.with_memory(TensorDict({key: observations.to(device)}, observations.shape[:1]))
        logits, values = self.actor.network(*(seen.get(key) for key in self.actor.in_keys))
        probabilities = logits.softmax(-1)
        if probabilities.ndim > 2:
            probabilities = probabilities[:, 0]
        return {"state_values": values.squeeze(-1).cpu(), "action_probabilities": probabilities.cpu()}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the parts hold everything."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
