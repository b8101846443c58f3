"""Exploring policies of a quantile actor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tensordict.nn import TensorDictModuleBase, TensorDictSequential

from tm_torchrl.modules import Boltzmann, EpsilonGreedy, NoisyExploration, PerturbedValues, QuantileActor
from tm_torchrl.modules.layers.noisy import is_noisy
from tm_torchrl.settings.schedules import Schedule, make_schedule

ScheduleLike = float | Schedule | Sequence[Any]


class ExploringPolicy:
    """A policy with the schedules of its exploration.

    Args:
        module: Acts; writes ``action`` and ``is_greedy``.
        schedules: Schedules by name, each with the module whose attribute ``epsilon`` it sets.
    """

    def __init__(
        self, module: TensorDictModuleBase, schedules: Mapping[str, tuple[TensorDictModuleBase, Schedule]]
    ) -> None:
        self.module = module
        self.schedules = dict(schedules)
        for name, (part, schedule) in self.schedules.items():
            for _, value in schedule.points:
                if not 0.0 <= value <= 1.0:
                    raise ValueError(f"{name}={value}: must be a probability, between 0 and 1")
                part.epsilon = value


def epsilon_greedy(
    actor: QuantileActor, *, epsilon: ScheduleLike, mean_steps: float = 1.0, per_block: bool = False, speed: float = 1.0
) -> ExploringPolicy:
    """A random action with probability epsilon.

    Args:
        actor: Acts greedily.
        epsilon: A number or a schedule.
        mean_steps: Mean number of steps for which a random action is held.
        per_block: Whether to explore all slots of an action block or none; held actions always fill whole blocks.
        speed: Multiplies the frames of the schedule.
    """
    _refuse_noise(actor)
    _refuse_single_actions(actor, per_block)
    _refuse_held_blocks(mean_steps, per_block)
    explore = EpsilonGreedy(1.0, mean_steps=mean_steps, per_block=per_block)
    schedule = make_schedule(epsilon, name="exploration.epsilon", speed=speed)
    return ExploringPolicy(TensorDictSequential(actor, explore), {"epsilon": (explore, schedule)})


def epsilon_boltzmann(
    actor: QuantileActor,
    *,
    epsilon: ScheduleLike,
    perturbed: ScheduleLike,
    scale: float = 0.01,
    mean_steps: float = 1.0,
    per_block: bool = False,
    speed: float = 1.0,
) -> ExploringPolicy:
    """Linesight's exploration: random actions, and the best of perturbed values.

    Args:
        actor: Acts greedily.
        epsilon: A number or a schedule.
        perturbed: Probability of perturbed values in steps without a random action; a number or a schedule.
        scale: Scale of the perturbation, in units of value.
        mean_steps: Mean number of steps for which a random action is held.
        per_block: Whether to explore all slots of an action block or none; held actions always fill whole blocks.
        speed: Multiplies the frames of the schedules.
    """
    _refuse_noise(actor)
    _refuse_single_actions(actor, per_block)
    perturb = PerturbedValues(0.0, scale=scale, per_block=per_block)
    explore = EpsilonGreedy(1.0, mean_steps=mean_steps, per_block=per_block)
    return ExploringPolicy(
        TensorDictSequential(actor, perturb, explore),
        {
            "perturbed": (perturb, make_schedule(perturbed, name="exploration.perturbed", speed=speed)),
            "epsilon": (explore, make_schedule(epsilon, name="exploration.epsilon", speed=speed)),
        },
    )


def boltzmann(
    actor: QuantileActor,
    *,
    temperature: float,
    epsilon: ScheduleLike = 1.0,
    per_block: bool = False,
    speed: float = 1.0,
) -> ExploringPolicy:
    """Actions drawn from the softmax of their values.

    Args:
        actor: Acts greedily.
        temperature: Temperature of the softmax, in units of value.
        epsilon: Probability of a draw instead of the greedy action; a number or a schedule.
        per_block: Whether to explore all slots of an action block or none.
        speed: Multiplies the frames of the schedule.
    """
    _refuse_noise(actor)
    _refuse_single_actions(actor, per_block)
    explore = Boltzmann(temperature, per_block=per_block)
    schedule = make_schedule(epsilon, name="exploration.epsilon", speed=speed)
    return ExploringPolicy(TensorDictSequential(actor, explore), {"epsilon": (explore, schedule)})


def noisy(
    actor: QuantileActor,
    *,
    epsilon: ScheduleLike | None = None,
    mean_steps: float = 1.0,
    every: int | Literal["episode"] = 1,
    per_car: bool = False,
    patience: float | None = None,
    per_block: bool = False,
    speed: float = 1.0,
) -> ExploringPolicy:
    """Noisy layers, with random actions on top, which end in BTR.

    Args:
        actor: Acts greedily, with noisy layers.
        epsilon: A number or a schedule; ``None`` for only noise.
        mean_steps: Mean number of steps for which a random action is held.
        every: Steps for which a car's noise is held, or ``"episode"``.
        per_car: Whether to draw separate noise for each car.
        patience: Steps without a changed action in which the noise of a car doubles; ``None`` leaves it as it is.
        per_block: Whether to explore all slots of an action block or none.
        speed: Multiplies the frames of the schedule.
    """
    noise = NoisyExploration(actor, every=every, per_car=per_car, patience=patience)
    _refuse_single_actions(actor, per_block)
    _refuse_held_blocks(mean_steps, per_block)
    if epsilon is None:
        if per_block or mean_steps > 1:
            given = "per_block=true" if per_block else f"mean_steps={mean_steps}"
            raise ValueError(f"{given}: needs random actions, but epsilon=null; set epsilon or leave it out")
        return ExploringPolicy(noise, {})
    explore = EpsilonGreedy(1.0, mean_steps=mean_steps, per_block=per_block)
    schedule = make_schedule(epsilon, name="exploration.epsilon", speed=speed)
    return ExploringPolicy(TensorDictSequential(noise, explore), {"epsilon": (explore, schedule)})


def _refuse_noise(actor: QuantileActor) -> None:
    if is_noisy(actor):
        raise ValueError(
            "the network has noisy layers, but this exploration never draws their noise; use exploration=noisy (with "
            "exploration.epsilon for random actions too), or objective.network.linear=linear"
        )


def _refuse_held_blocks(mean_steps: float, per_block: bool) -> None:
    if per_block and mean_steps > 1:
        raise ValueError(
            f"per_block=true, mean_steps={mean_steps}: held actions always fill whole blocks; set only one of them"
        )


def _refuse_single_actions(actor: QuantileActor, per_block: bool) -> None:
    if per_block and actor.quantile_module.network.num_slots is None:
        raise ValueError(
            "per_block=true: the network decides single actions; use env.action_block=5 or per_block=false"
        )
