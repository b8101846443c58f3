"""Faults in a simulated cluster on this machine: a node that is killed, a partition."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tests.collectors.failing_env import CountingBatch, make_policy
from tests.collectors.test_supervised import needs_ray, pids, posix, wait_for_all
from tm_torchrl.collectors import RayCollector
from tm_torchrl.collectors.supervised import SLOW_START, SupervisedCollector

Build = Callable[..., SupervisedCollector]
pytestmark = [needs_ray, posix]
NODE = {"num_cpus": 2, "num_gpus": 0, "resources": {"seat": 1}, "object_store_memory": 100 * 2**20}


def collector_on(cluster: Any, messages: list[str], **options: Any) -> RayCollector:
    """Two workers, each on a node of its own that has a seat."""
    torch.manual_seed(0)
    return RayCollector(
        [partial(CountingBatch, num_envs=2)] * 2,
        make_policy(),
        address=cluster.address,
        resources={"CPU": 1, "seat": 1},
        frames_per_batch=16,
        log=lambda message: None if message == SLOW_START else messages.append(message),
        **options,
    )


def test_a_node_that_is_killed_is_replaced_when_another_comes(ray_cluster: Any) -> None:
    """Two nodes have one seat each; one dies. Its worker waits for a seat, until a node comes; the other goes on."""
    nodes = [ray_cluster.add_node(**NODE) for _ in range(2)]
    messages: list[str] = []
    collector = collector_on(ray_cluster, messages)
    try:
        wait_for_all(collector)
        ray_cluster.remove_node(nodes.pop(), allow_graceful=False)
        begin = time.monotonic()
        while not messages:
            next(collector)
            assert time.monotonic() - begin < 100, "nothing was noticed"
        assert re.search(r"worker \d (ended|cannot be reached).* node .*\nThis worker restarts", messages[0])
        lanes = {int(next(collector)["collector", "lane"][0, 0]) for _ in range(50)}
        assert len(lanes) == 1, "the other goes on alone"
        nodes.append(ray_cluster.add_node(**NODE))
        wait_for_all(collector)
        assert collector.num_restarts >= 1, "once more where Ray has not yet noticed, and chose the dead node again"
    finally:
        collector.shutdown()
        for node in nodes:
            ray_cluster.remove_node(node)


def test_a_partition_that_ends_in_time_loses_nothing(build: Build) -> None:
    """A stopped process answers as little as one behind a broken network: 5 s, where 20 s are allowed."""
    messages: list[str] = []
    collector = build(kind="ray", workers=2, hang_timeout_s=20.0, log=messages.append)
    wait_for_all(collector)
    stopped = pids(collector)[1]
    os.kill(stopped, signal.SIGSTOP)
    threading.Timer(5.0, os.kill, (stopped, signal.SIGCONT)).start()
    begin, lanes = time.monotonic(), []
    while time.monotonic() - begin < 5.0:
        lanes.append(int(next(collector)["collector", "lane"][0, 0]))
        time.sleep(0.02)
    assert lanes.count(2) <= 2 < lanes.count(0), "worker 1 stands still, worker 0 does not"
    wait_for_all(collector)
    assert collector.num_restarts == 0
    assert not [message for message in messages if "slow" not in message]


def test_weights_arrive_bit_for_bit(build: Build) -> None:
    """An actor returns the policy's values of what it has seen, which the learner computes again."""
    collector: Any = build(kind="ray")
    for _ in range(3):
        next(collector)
        with torch.no_grad():
            collector.policy[0].module.weight.normal_()
        collector.push_weights()
    next(collector)  # was requested before the last push
    batch = next(collector)
    assert torch.equal(collector.policy[0].module(batch["observation"]), batch["action_value"])
