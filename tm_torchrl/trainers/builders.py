"""From settings to a training."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import torch

from tm_torchrl.algorithms.exploration import ExploringPolicy
from tm_torchrl.algorithms.quantile import build_actor, build_learner, build_policy, build_replay, build_schedules
from tm_torchrl.collectors.supervised import SupervisedCollector, collector_kind
from tm_torchrl.settings.construct import ConfigError, named
from tm_torchrl.tasks.build import Settings
from tm_torchrl.tasks.task import Task
from tm_torchrl.trainers.training import Training


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
