"""Batches that stand for real ones: to time updates with, and to look into the network with."""

from __future__ import annotations

import torch
from tensordict import TensorDict

from tm_torchrl.evaluation import Diagnostics
from tm_torchrl.tasks.task import Task
from tm_torchrl.trainers.training import Training

PROBE_STATES = 256


def random_transitions(task: Task, *, size: int, device: torch.device) -> TensorDict:
    """Transitions of random actions, repeated to a size: right shapes, right kinds of numbers."""
    env = task.env_to_look_at(num_envs=min(task.num_envs, size))
    try:
        steps = env.rollout(2, break_when_any_done=False).reshape(-1)
    finally:
        env.close()
    rows = torch.arange(size) % len(steps)
    keys = [*task.in_keys, "action"]
    after = [*task.in_keys, "reward", "done", "terminated"]
    batch = steps.select(*keys, *(("next", key) for key in after))[rows]
    return batch.to(device)


def measure_network(training: Training) -> dict[str, float]:
    """Diagnostics of the network on states from the replay, the same ones all through a run."""
    diagnostics = diagnostics_of(training)
    return {} if diagnostics is None else diagnostics.measure()


def diagnostics_of(training: Training) -> Diagnostics | None:
    """What looks into the network; ``None`` while the replay has too few states."""
    if training.diagnostics is None:
        if len(training.replay) < PROBE_STATES:
            return None
        buffer = training.replay.buffer
        rows = torch.linspace(0, len(buffer) - 1, PROBE_STATES).long()
        states = buffer[rows].select(*training.task.in_keys)
        training.diagnostics = Diagnostics(
            training.actor.quantile_module.network, [states[key] for key in training.task.in_keys]
        )
    return training.diagnostics
