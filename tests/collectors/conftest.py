"""Collectors of counting environments, shut down when a test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.collectors.failing_env import CountingBatch, make_policy
from tm_torchrl.collectors import RayCollector
from tm_torchrl.collectors.supervised import SLOW_START, SupervisedCollector


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Iterator[Callable[..., SupervisedCollector]]:
    """Makes collectors of two lanes and four steps a worker; the first worker fails, or one that is named."""
    made: list[SupervisedCollector] = []

    def make(
        *, workers: int = 1, fails: Path | None = None, failing: int = 0, num_envs: int = 2, **options: Any
    ) -> SupervisedCollector:
        torch.manual_seed(0)
        functions = [
            partial(CountingBatch, num_envs=num_envs, fails=fails if i == failing else None) for i in range(workers)
        ]
        options["frames_per_batch"] = 4 * num_envs * workers
        log = options.get("log", lambda message: None)
        options["log"] = lambda message: None if message == SLOW_START else log(message)  # of a busy machine
        if options.get("kind") == "ray":
            del options["kind"]
            cluster = request.getfixturevalue("ray_cluster")
            made.append(RayCollector(functions, make_policy(), address=cluster.address, **options))
        else:
            made.append(SupervisedCollector(functions, make_policy(), **options))
        return made[-1]

    yield make
    for collector in made:
        collector.shutdown()
