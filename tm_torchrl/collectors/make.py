"""A supervised collector for the environments of a task."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import torch
from tensordict.nn import TensorDictModuleBase

from tm_torchrl.collectors.collector import EnvMaker
from tm_torchrl.collectors.supervised import SupervisedCollector, collector_kind


def make_collector(
    env_maker: EnvMaker,
    policy: TensorDictModuleBase,
    *,
    kind: str = "multi_sync",
    num_workers: int | str = "auto",
    frames_per_batch: int = 512,
    overlap: bool = False,
    push_every: int = 1,
    hang_timeout_s: float = 10.0,
    max_restarts: int = 10,
    device: torch.device | str = "cpu",
    seed: int = 0,
    log: Callable[[str], None] = lambda message: None,
) -> SupervisedCollector:
    """Workers that share the environments equally.

    Args:
        env_maker: Makes the environments, such as a task.
        policy: Acts; workers get copies.
        kind: ``"single"`` (in this process), ``"multi_sync"`` or ``"multi_async"``.
        num_workers: Worker processes; ``"auto"`` for one on each core but the learner's.
        frames_per_batch: Steps of all environments together in a batch.
        overlap: With ``"multi_sync"``: collect the next batch while learning from this one.
        push_every: Batches between pushes of the weights to the workers.
        hang_timeout_s: How long a worker may take for a step.
        max_restarts: Failures within ten minutes after which collection ends.
        device: Device of the policy and of the batches.
        seed: Seeds the environments and the workers' random generators.
        log: Takes messages.
    """
    kind = collector_kind(kind)
    if kind == "multi_async" and not overlap:
        raise ValueError("overlap=false: workers of multi_async never wait; use collector=multi_sync")
    workers = 1
    if kind != "single":
        if num_workers == "auto" and env_maker.num_workers is not None:
            num_workers = env_maker.num_workers
        workers = share_equally(num_workers, num_envs=env_maker.num_envs, at_least=2 if kind == "multi_async" else 1)
    env_maker.check_workers(workers, in_this_process=kind == "single")
    share = env_maker.num_envs // workers
    return SupervisedCollector(
        [partial(env_maker.make_env, num_envs=share, first=share * i, seed=seed) for i in range(workers)],
        policy,
        kind=kind,
        frames_per_batch=frames_per_batch,
        overlap=overlap and kind == "multi_sync",
        push_every=push_every,
        device=device,
        seed=seed,
        hang_timeout_s=max(hang_timeout_s, env_maker.longest_step_s),
        max_restarts=max_restarts,
        log=log,
    )


def share_equally(num_workers: int | str, *, num_envs: int, at_least: int = 1) -> int:
    """The number of workers, checked; ``"auto"``: one on each core but the learner's, as far as they share equally.

    Args:
        num_workers: A number or ``"auto"``.
        num_envs: Environments of all workers together.
        at_least: The smallest number that ``"auto"`` gives.

    Examples:
        >>> share_equally(4, num_envs=64)
        4
    """
    if num_workers == "auto":
        return most_equal_shares(max(at_least, (os.cpu_count() or 2) - 1), num_envs=num_envs)
    if not isinstance(num_workers, int) or isinstance(num_workers, bool) or num_workers < 1:
        raise ValueError(f"num_workers={num_workers!r}: must be auto or a whole number of at least 1")
    if num_envs % num_workers:
        raise ValueError(
            f"num_workers={num_workers}: cannot share env.num_envs={num_envs} equally; use a divisor of it"
        )
    return num_workers


def most_equal_shares(most: int, *, num_envs: int) -> int:
    """The largest number of workers that share the environments equally.

    Args:
        most: The largest number to consider.
        num_envs: Environments of all workers together.

    Examples:
        >>> most_equal_shares(7, num_envs=64)
        4
    """
    return max(workers for workers in range(1, min(most, num_envs) + 1) if num_envs % workers == 0)
