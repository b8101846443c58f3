"""Transitions to try updates with."""

from __future__ import annotations

import torch
from tensordict import TensorDict

from tm_torchrl.tasks.task import Task


def random_transitions(task: Task, *, size: int, device: torch.device) -> TensorDict:
    """A batch of ``size`` transitions of random actions; a few real ones are repeated."""
    env = task.env_to_look_at(num_envs=min(task.num_envs, size))
    try:
        steps = env.rollout(2, break_when_any_done=False).reshape(-1)
    finally:
        env.close()
    rows = torch.arange(size) % len(steps)
    return _selected(steps, task)[rows].to(device)


def blank_transitions(task: Task, *, device: torch.device) -> TensorDict:
    """Transitions of zeros, for which nothing is played."""
    env = task.env_to_look_at()
    try:
        blank = env.fake_tensordict().reshape(-1)
    finally:
        env.close()
    return _selected(blank, task).to(device)


def _selected(steps: TensorDict, task: Task) -> TensorDict:
    """What losses read."""
    after = [*task.in_keys, "reward", "done", "terminated"]
    return steps.select(*task.in_keys, "action", *(("next", key) for key in after))
