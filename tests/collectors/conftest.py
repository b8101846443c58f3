"""Collectors of counting environments, shut down when a test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.collectors.failing_env import CountingBatch, make_policy
from tm_torchrl.collectors.supervised import SupervisedCollector


@pytest.fixture
def build() -> Iterator[Callable[..., SupervisedCollector]]:
    """Makes collectors of two lanes and four steps a worker; the first worker fails, or one that is named."""
    made: list[SupervisedCollector] = []

    def make(
        *, workers: int = 1, fails: Path | None = None, failing: int = 0, num_envs: int = 2, **options: object
    ) -> SupervisedCollector:
        torch.manual_seed(0)
        functions = [
            partial(CountingBatch, num_envs=num_envs, fails=fails if i == failing else None) for i in range(workers)
        ]
        frames = 4 * num_envs * workers
        made.append(SupervisedCollector(functions, make_policy(), frames_per_batch=frames, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for collector in made:
        collector.shutdown()
