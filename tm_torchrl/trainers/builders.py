"""From a configuration to the parts of a training; the one place, with the scripts, that knows Hydra's containers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from tm_torchrl.data import CapacitySchedule, HeldOut, MiniRace, NStep, ReuseBudget, make_replay_buffer
from tm_torchrl.envs.rewards import Potential
from tm_torchrl.modules import QuantileActor
from tm_torchrl.objectives.quantile_loss import QuantileLoss
from tm_torchrl.trainers.collection import SupervisedCollector, collector_kind
from tm_torchrl.trainers.construct import ConfigError, check_arguments, construct, construct_later, named, shown
from tm_torchrl.trainers.learner import Learner
from tm_torchrl.trainers.policies import ExploringPolicy
from tm_torchrl.trainers.replay import Buffer, Replay
from tm_torchrl.trainers.schedules import Schedule, make_schedule
from tm_torchrl.trainers.tasks import Task
from tm_torchrl.trainers.training import Training
from tm_torchrl.world.observation import observation_layout

Settings = Mapping[str, Any]


def plain_settings(config: DictConfig | Settings) -> dict[str, Any]:
    """Nested dicts, with interpolations resolved."""
    if isinstance(config, DictConfig):
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    return dict(config)


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes CUDA where it is."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(f"device={name!r}: auto, cpu or cuda wanted") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name!r}: auto, cpu or cuda wanted")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name!r}: this torch sees no CUDA device; use device=cpu or auto")
    return device


def build_task(settings: Settings) -> Task:
    """What is trained on."""
    if settings.get("missing"):
        raise ConfigError(f"experiment: it needs {settings['missing']}, which this version does not have yet")
    task: Task = construct(settings["env"], name="env")
    if not hasattr(task, "num_envs") or not hasattr(task, "make_env"):
        raise ConfigError(f"env._target_={settings['env']['_target_']}: it is no task, such as TrackManiaTask")
    if task.num_envs < 1:
        raise ConfigError(f"env.num_envs={task.num_envs}: at least 1 is needed")
    return task


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


def num_workers(wanted: int | str, *, num_envs: int, at_least: int = 1) -> int:
    """Worker processes; ``auto``: as many as cores but the learner's, and so that they share the cars equally.

    >>> num_workers(4, num_envs=64)
    4
    """
    if wanted == "auto":
        most = max(at_least, (os.cpu_count() or 2) - 1)
        return max(workers for workers in range(1, min(most, num_envs) + 1) if num_envs % workers == 0)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise ConfigError(f"collector.num_workers={wanted!r}: auto or a number of at least 1 wanted")
    if num_envs % wanted:
        raise ConfigError(
            f"env.num_envs={num_envs}: cannot be shared equally by collector.num_workers={wanted}; use a multiple of it"
        )
    return wanted


def build_collector(
    settings: Settings, task: Task, policy: ExploringPolicy, *, device: torch.device, log: Callable[[str], None]
) -> SupervisedCollector:
    """Workers with their shares of the cars."""
    collector = settings["collector"]
    with named("collector"):
        kind = collector_kind(collector["kind"])
    if kind == "multi_async" and not collector["overlap"]:
        raise ConfigError("collector.overlap=false: workers of multi_async always drive on; use collector=multi_sync")
    workers = 1
    if kind != "single":
        at_least = 2 if kind == "multi_async" else 1
        wanted = collector["num_workers"]
        if wanted == "auto":
            wanted = getattr(task, "num_workers", wanted)  # games have their own number
        workers = num_workers(wanted, num_envs=task.num_envs, at_least=at_least)
    check = getattr(task, "check_workers", None)
    if check is not None:
        with named("collector"):
            check(workers, in_this_process=kind == "single")
    share = task.num_envs // workers
    functions = [partial(task.make_env, num_envs=share, first=share * i, seed=settings["seed"]) for i in range(workers)]
    return SupervisedCollector(
        functions,
        policy.module,
        kind=kind,
        frames_per_batch=collector["frames_per_batch"],
        overlap=collector["overlap"] and kind == "multi_sync",
        device=device,
        seed=settings["seed"],
        hang_timeout_s=max(collector["hang_timeout_s"], getattr(task, "longest_step_s", 0.0)),
        max_restarts=collector["max_restarts"],
        log=log,
    )


def build_training(
    settings: Settings, *, task: Task, precision: str, device: torch.device, log: Callable[[str], None]
) -> Training:
    """All parts but the hooks."""
    torch.manual_seed(settings["seed"])
    actor = build_actor(settings, task, device=device)
    learner = build_learner(settings, actor, precision=precision)
    policy = build_policy(settings, actor)
    policy.module.to(device)
    with named("replay"):
        replay = build_replay(settings, task)
    schedules = build_schedules(settings, task, learner, replay)
    collector = build_collector(settings, task, policy, device=device, log=log)
    return Training(
        task=task,
        actor=actor,
        policy=policy,
        collector=collector,
        replay=replay,
        learner=learner,
        schedules=schedules,
        total_frames=settings["total_frames"],
        max_minutes=settings["max_minutes"],
        push_every=settings["collector"]["push_every"],
        schedule_speed=settings["schedule_speed"],
    )
