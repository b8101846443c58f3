"""The quantile family: IQN, QR-DQN, FQF, non-crossing quantiles, and DQN beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tm_torchrl.algorithms.exploration import ExploringPolicy
from tm_torchrl.algorithms.learner import Learner
from tm_torchrl.data import CapacitySchedule, HeldOut, MiniRace, NStep, ReuseBudget, make_replay_buffer
from tm_torchrl.data.replay import Buffer, Replay
from tm_torchrl.envs.rewards import Potential
from tm_torchrl.modules import QuantileActor
from tm_torchrl.objectives.quantile_loss import QuantileLoss
from tm_torchrl.settings.construct import ConfigError, check_arguments, construct, construct_later, named, shown
from tm_torchrl.settings.schedules import Schedule, make_schedule
from tm_torchrl.tasks.task import Task
from tm_torchrl.world.observation import observation_layout

Settings = Mapping[str, Any]


def build_actor(settings: Settings, task: Task, *, device: torch.device) -> QuantileActor:
    """The network, as an actor."""
    objective = settings["objective"]
    with named("env"):
        arguments = task.network_arguments()
        env = task.env_to_look_at()
    try:
        network = construct_later(objective["network"], name="objective.network", **arguments)()
        with named("objective.num_acting_fractions"):
            return QuantileActor(
                network.to(device),
                spec=env.action_spec,
                in_keys=task.in_keys,
                num_fractions=objective["num_acting_fractions"],
            ).to(device)
    finally:
        env.close()


def build_loss(settings: Settings, actor: QuantileActor) -> QuantileLoss:
    """The loss with its value estimator."""
    loss: QuantileLoss = construct_later(settings["objective"]["loss"], name="objective.loss")(actor)
    estimator = dict(settings["estimator"])
    kind = estimator.pop("name")
    if not isinstance(kind, str):
        raise ConfigError(f"estimator.name={shown(kind)}: a name such as munchausen wanted")
    gamma = make_schedule(settings["gamma"], name="gamma")(0)
    with named("estimator"):
        try:
            loss.make_value_estimator(kind, gamma=gamma)
        except KeyError as error:  # TorchRL's, for a name that it does not know
            raise ConfigError(f"estimator.name={kind!r}: {error.args[0]}") from None
    with named("estimator"):
        given = ("evaluate", "num_fractions", "is_one_hot", "gamma", "device")
        check_arguments(type(loss.value_estimator), estimator, given, "estimator")
        loss.make_value_estimator(kind, gamma=gamma, **estimator)
    return loss


def build_learner(settings: Settings, actor: QuantileActor, *, precision: str) -> Learner:
    """Loss, optimiser and target network."""
    loss = build_loss(settings, actor)
    optimizer = construct_later(settings["optimizer"], name="optimizer")
    with named("target_update"):
        target = construct_later(settings["target_update"], name="target_update")(loss)
    with named("learner"):
        return Learner(loss, optimizer, target=target, precision=precision, **settings["learner"])


def build_policy(settings: Settings, actor: QuantileActor) -> ExploringPolicy:
    """The actor with exploration."""
    policy: ExploringPolicy = construct_later(settings["exploration"], name="exploration")(
        actor, speed=settings["schedule_speed"]
    )
    with named("exploration"):
        for module, schedule in policy.schedules.values():
            for _, value in schedule.points:
                module.epsilon = value  # which refuses what is no probability
    return policy


def build_mini_race(settings: Settings) -> MiniRace | None:
    """The horizon that is drawn anew at each sampling, if there is one."""
    wanted = settings["replay"]["mini_race"]
    if wanted is None:
        return None
    if not isinstance(wanted, Mapping):
        raise ConfigError(f"replay.mini_race={shown(wanted)}: null, or settings such as {{num_actions: 140}} wanted")
    floats = settings["env"].get("floats", True)
    if not (floats if isinstance(floats, bool) else "clock" in floats):
        raise ConfigError(
            f"replay.mini_race: its clock stands in the floats, and env.floats={floats} hides it; use true"
        )
    options = dict(wanted)
    if options.get("potential") is not None:
        potential = construct(options["potential"], name="replay.mini_race.potential")
        if not isinstance(potential, Potential):
            raise ConfigError(f"replay.mini_race.potential: {type(potential).__name__}: a Potential wanted")
        layout = observation_layout(settings["env"].get("num_previous_actions", 5))
        options["potential"] = partial(potential.potential, layout=layout)
    with named("replay.mini_race"):
        return MiniRace(**options)


def build_replay(settings: Settings, task: Task, *, scratch: Path | None = None) -> Replay:
    """Buffers and n-step writer."""
    replay = settings["replay"]
    gamma = make_schedule(settings["gamma"], name="gamma")(0)
    is_pixels = "pixels" in task.in_keys
    storage = replay["storage"] if replay["storage"] != "auto" else "frames" if is_pixels else "memory"
    prioritized = replay["prioritized"]
    mini_race = build_mini_race(settings)
    augmentation = replay.get("augmentation")  # runs of before have none
    if augmentation is not None and not is_pixels:
        raise ConfigError("replay.augmentation: it changes images, and there are none; use env.pixels=true, or null")
    n_step = NStep(
        replay["num_steps"],
        gamma=gamma,
        cut_at_exploration=replay["cut_at_exploration"],
        frame_ids=storage == "frames",
        extra_keys=[("collector", "traj_ids")] if replay["held_out_share"] else [],
    )

    def make_buffer(capacity: int) -> Buffer:
        return make_replay_buffer(
            capacity=capacity,
            batch_size=replay["batch_size"],
            prioritized=prioritized is not None,
            alpha=prioritized["alpha"] if prioritized else 0.6,
            beta=make_schedule(prioritized["beta"], name="replay.prioritized.beta")(0) if prioritized else 0.4,
            storage=storage,
            transforms=[
                *([] if mini_race is None else [mini_race]),
                *([] if augmentation is None else [construct(augmentation, name="replay.augmentation")]),
            ],
            scratch_dir=scratch if storage == "memmap" else None,
            seed=settings["seed"],
        )

    capacity = replay["capacity"]
    stages = [(0, capacity, replay["learning_starts"])] if isinstance(capacity, int) else [tuple(s) for s in capacity]
    return Replay(
        make_buffer,
        n_step=n_step,
        capacity=CapacitySchedule(stages),
        budget=ReuseBudget(uses_per_transition=replay["uses_per_transition"]),
        batch_size=replay["batch_size"],
        held_out=HeldOut(share=replay["held_out_share"], seed=settings["seed"]) if replay["held_out_share"] else None,
    )


def build_schedules(
    settings: Settings, task: Task, learner: Learner, replay: Replay
) -> dict[str, tuple[Schedule, Any]]:
    """What follows the frames played, besides exploration."""
    speed = settings["schedule_speed"]
    schedules: dict[str, tuple[Schedule, Callable[[float], None]]] = {
        "learning_rate": (
            make_schedule(settings["learning_rate"], name="learning_rate", speed=speed),
            partial(setattr, learner, "learning_rate"),
        )
    }
    if not isinstance(settings["gamma"], (int, float)):

        def set_gamma(value: float) -> None:
            learner.loss.value_estimator.gamma.fill_(value)
            replay.set_gamma(value)

        schedules["gamma"] = (make_schedule(settings["gamma"], name="gamma"), set_gamma)
    prioritized = settings["replay"]["prioritized"]
    if prioritized:
        schedules["beta"] = (
            make_schedule(prioritized["beta"], name="replay.prioritized.beta", speed=speed),
            replay.set_beta,
        )
    for name, schedule in task.schedules(speed=speed).items():
        schedules[name] = (schedule, lambda value: None)  # environments follow it by themselves
    return schedules
