"""Actors that explore as their schedules say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tensordict.nn import TensorDictModuleBase, TensorDictSequential

from tm_torchrl.modules import Boltzmann, EpsilonGreedy, NoisyExploration, PerturbedValues, QuantileActor
from tm_torchrl.modules.layers.noisy import is_noisy
from tm_torchrl.settings.schedules import Schedule, make_schedule

ScheduleLike = float | Schedule | Sequence[Any]


class ExploringPolicy:
    """A policy, and the schedules of its exploration.

    Args:
        module: acts; writes ``action`` and ``is_greedy``.
        schedules: by name, each with the module whose attribute ``epsilon`` it sets.
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
        actor: acts.
        epsilon: number or schedule.
        mean_steps: for which a random action is held.
        per_block: explore all slots of an action block or none; held actions always fill whole blocks.
        speed: of the schedule.
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
    """The Linesight agent's: random with probability epsilon, the best of perturbed values with another.

    Args:
        actor: acts.
        epsilon: number or schedule.
        perturbed: the other probability, of those steps that are not random.
        scale: of the perturbation, in units of value.
        mean_steps: for which a random action is held.
        per_block: explore all slots of an action block or none; held actions always fill whole blocks.
        speed: of the schedules.
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
    """A draw from the softmax of the values, with a probability that may follow a schedule.

    Args:
        actor: acts.
        temperature: in units of value.
        epsilon: how often; 1 always.
        per_block: explore all slots of an action block or none.
        speed: of the schedule.
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
    every: int = 1,
    per_car: bool = False,
    per_block: bool = False,
    speed: float = 1.0,
) -> ExploringPolicy:
    """Noisy layers, and epsilon on top, which BTR lets end.

    Args:
        actor: with noisy layers.
        epsilon: number or schedule; ``None`` for noise alone.
        mean_steps: for which a random action is held.
        every: steps between draws of noise.
        per_car: noise of its own for each car, instead of one draw for all.
        per_block: explore all slots of an action block with a random action, or none.
        speed: of the schedule.
    """
    noise = NoisyExploration(actor, every=every, per_car=per_car)
    _refuse_single_actions(actor, per_block)
    _refuse_held_blocks(mean_steps, per_block)
    if epsilon is None:
        if per_block or mean_steps > 1:
            given = "per_block=true" if per_block else f"mean_steps={mean_steps}"
            raise ValueError(f"{given}, epsilon=null: noise alone draws no actions; give epsilon, or leave it out")
        return ExploringPolicy(noise, {})
    explore = EpsilonGreedy(1.0, mean_steps=mean_steps, per_block=per_block)
    schedule = make_schedule(epsilon, name="exploration.epsilon", speed=speed)
    return ExploringPolicy(TensorDictSequential(noise, explore), {"epsilon": (explore, schedule)})


def _refuse_noise(actor: QuantileActor) -> None:
    """Exploration by actions alone leaves noisy layers with one noise for ever."""
    if is_noisy(actor):
        raise ValueError(
            "the network has noisy layers, but this exploration never draws their noise; give exploration=noisy (with "
            "exploration.epsilon, if wanted), or objective.network.linear=linear"
        )


def _refuse_held_blocks(mean_steps: float, per_block: bool) -> None:
    """Two words for one thing."""
    if per_block and mean_steps > 1:
        raise ValueError(
            f"per_block=true, mean_steps={mean_steps}: held actions fill whole blocks anyway; leave one of them out"
        )


def _refuse_single_actions(actor: QuantileActor, per_block: bool) -> None:
    """One draw for a block needs blocks."""
    if per_block and actor.quantile_module.network.num_slots is None:
        raise ValueError(
            "per_block=true: the network decides single actions; give blocks (env.action_block=5), or per_block=false"
        )
