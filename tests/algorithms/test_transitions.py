"""Transitions of random actions."""

from __future__ import annotations

import torch

from tm_torchrl.algorithms.transitions import random_transitions
from tm_torchrl.tasks import GymnasiumTask


def test_a_few_real_steps_are_repeated_to_the_size() -> None:
    """Two steps in each of three environments give six rows; the seventh is the first again."""
    task = GymnasiumTask("CartPole-v1", num_envs=3)
    batch = random_transitions(task, size=8, device=torch.device("cpu"))
    assert batch.batch_size == (8,)
    after = [("next", key) for key in ("observation", "reward", "done", "terminated")]
    assert set(batch.keys(True, True)) == {"observation", "action", *after}
    assert torch.equal(batch["observation"][6:], batch["observation"][:2])
    assert len(batch["observation"][:6].unique(dim=0)) == 6
    assert batch["action"].dtype == torch.int64 and batch["next", "reward"].tolist() == [[1.0]] * 8


def test_no_more_environments_are_made_than_there_are_rows() -> None:
    batch = random_transitions(GymnasiumTask("CartPole-v1", num_envs=64), size=2, device=torch.device("cpu"))
    assert batch.batch_size == (2,)
