"""Transitions of random actions, to time updates with."""

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
    keys = [*task.in_keys, "action"]
    after = [*task.in_keys, "reward", "done", "terminated"]
    batch = steps.select(*keys, *(("next", key) for key in after))[rows]
    return batch.to(device)
