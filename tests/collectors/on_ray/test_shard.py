"""Shards of a replay as Ray actors, filled by workers in a simulated cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.collectors.failing_env import CountingBatch, make_policy
from tests.collectors.test_supervised import needs_ray, posix
from tm_torchrl.collectors import RayCollector
from tm_torchrl.collectors.on_ray.shard import RayShard
from tm_torchrl.data import Priorities, ShardedReplay
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.run import make_training, train


def test_other_collectors_cannot_fill_it() -> None:
    settings = compose_settings(["experiment=cartpole_iqn", "replay=sharded", "collector=single", "precision=float32"])
    with pytest.raises(ConfigError, match=r"^replay=sharded: .*collector=ray"):
        make_training(settings, make_task(settings))


@pytest.fixture
def filled(ray_cluster: Any) -> Iterator[tuple[RayCollector, ShardedReplay, list[str]]]:
    """Two workers of two lanes that count to ten, and two shards."""
    torch.manual_seed(0)
    messages: list[str] = []
    options: Any = {"num_shards": 2, "capacity": 400, "batch_size": 16, "uses_per_transition": 1, "gamma": 0.5}
    replay = ShardedReplay(**options, num_steps=3, prioritized=Priorities(alpha=1.0), stored_keys=["observation"])
    collector = RayCollector(
        [partial(CountingBatch, num_envs=2)] * 2,
        make_policy(),
        address=ray_cluster.address,
        frames_per_batch=32,
        replay=replay,
        log=messages.append,
    )
    yield collector, replay, messages
    collector.shutdown()


@needs_ray
@posix
def test_transitions_are_whole_and_a_killed_shard_costs_its_own(filled: Any) -> None:
    """Counts from 0 to 10, rewards of 1: three steps on is count + 3 and 1 + 1/2 + 1/4, less where the episode ends."""
    collector, replay, messages = filled
    num, lanes = 0, set()
    for _ in range(8):
        steps = next(collector)
        assert ("next", "observation") not in steps.keys(True), "observations do not travel to the learner"
        lanes |= set(steps["collector", "lane"][:, 0].tolist())
        num += replay.extend(steps)
    replay.shards.settled()
    assert len(replay) == num == 8 * 2 * 8 - 2 * len(lanes), "the last two steps of each lane wait for the next"
    batch = replay.sample()
    count, after = batch["observation"].flatten(), batch["next", "observation"].flatten()
    used = (10 - count).clamp(max=3)
    assert torch.equal(after, count + used) and torch.equal(batch["steps_to_next_obs"].flatten().float(), used)
    assert torch.equal(batch["next", "reward"].flatten(), 2 - 2 * 0.5**used)
    assert torch.equal(batch["next", "terminated"].flatten(), after == 10)
    replay.seen(batch.set("td_error", torch.full((16, 1), 5.0)))
    replay.shards.settled()
    assert sum(shard.state.total for shard in replay.shards.all) == pytest.approx(num + 4 * len(set(keys_of(batch))))
    victim = replay.shards.all[1]
    lost = victim.state.num
    os.kill(process_of(victim.handle), signal.SIGKILL)
    batch = replay.sample()
    assert batch["shard"].max() == 0 and len(replay) == num - lost
    assert "shard 1 of the replay ended" in messages[-1] and f"its {lost} transitions are lost" in messages[-1]
    replay.shards.started(1)
    for _ in range(2):
        replay.extend(next(collector))
    replay.shards.settled()
    assert all(shard.state.num for shard in replay.shards.all)


def keys_of(batch: Any) -> list[tuple[int, int]]:
    return list(zip(batch["shard"].tolist(), batch["index"].tolist(), strict=True))


def process_of(handle: RayShard) -> int:
    return int(handle.call("process").result(60))


@needs_ray
@pytest.mark.slow
def test_a_training_saves_its_shards_and_continues(ray_cluster: Any, tmp_path: Path) -> None:
    overrides = ["experiment=cartpole_iqn", "collector=ray", "replay=sharded", "collector.num_workers=1"]
    overrides += [
        "precision=float32",
        "collector.address=auto",
        "replay.learning_starts=100",
        "checkpoint.keep_replay=true",
    ]
    prioritized = "replay.prioritized={_target_: tm_torchrl.data.Priorities, alpha: 0.6, beta: 0.4}"
    summary = train([*overrides, prioritized, "total_frames=1024"], folder=tmp_path / "run", is_quiet=True)
    assert {path.name for path in (tmp_path / "run" / "replay").iterdir()} == {"shard_0", "shard_1"}
    continued = train([f"resume={summary.folder}", "total_frames=1536"], is_quiet=True)
    assert continued.frames >= 1536
    assert "replay restored" in (tmp_path / "run" / "messages.jsonl").read_text()
