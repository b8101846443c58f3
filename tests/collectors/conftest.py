"""Collectors of counting environments, shut down when a test ends, and a simulated Ray cluster on this machine."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.collectors.failing_env import CountingBatch, make_policy
from tm_torchrl.collectors import RayCollector
from tm_torchrl.collectors.supervised import SLOW_START, SupervisedCollector


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that offers four CPUs, to which this process is connected; without dashboard, telemetry and old tokens."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text(uuid.uuid4().hex + uuid.uuid4().hex)
    root = str(Path(__file__).resolve().parents[2])
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
    }
    import ray
    from ray._raylet import Config
    from ray.cluster_utils import Cluster

    Config.initialize("")  # TorchRL has imported Ray before, which reads the environment then

    arguments = {"num_cpus": 4, "num_gpus": 0, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


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
