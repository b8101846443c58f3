"""Buffers and collectors of Ray with our storages and n-step transitions; runs where Ray is installed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torchrl.collectors.distributed import RayCollector
from torchrl.data import RayReplayBuffer, TensorDictReplayBuffer
from torchrl.modules import RandomPolicy

from tests.data.episodes import make_lanes, to_batch
from tm_torchrl.data import FrameStorage, NStep, RowStorage
from tm_torchrl.envs import TrackManiaEnv

ray = pytest.importorskip("ray")
RAY = {"num_cpus": 2, "include_dashboard": False}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    yield
    ray.shutdown()


@pytest.mark.parametrize("storage", [RowStorage, FrameStorage])
def test_the_same_rows_as_in_this_process(storage: type) -> None:
    n_step = partial(NStep, 3, gamma=0.5, frame_ids=storage is FrameStorage)
    options = {"storage": partial(storage, 100), "transform_factory": n_step, "batch_size": 8}
    there = RayReplayBuffer(
        replay_buffer_cls=TensorDictReplayBuffer, ray_init_config=RAY, remote_config={"num_cpus": 0}, **options
    )
    here = TensorDictReplayBuffer(**options)
    lanes = make_lanes(1, num_lanes=2, num_steps=12)
    for start in (0, 6):
        for buffer in (here, there):
            buffer.extend(to_batch([lane[start : start + 6] for lane in lanes], image_size=4))
    assert len(there) == len(here) == 2 * (12 - 2)
    assert torch.equal(there[:]["next", "reward"], here[:]["next", "reward"])
    assert there.sample()["next", "observation"].shape == (8, 2)
    there.close()


def test_a_collector_of_ray_drives_cars() -> None:
    env = TrackManiaEnv(4, track="oval")
    collector = RayCollector(
        [partial(TrackManiaEnv, 4, track="oval")],
        RandomPolicy(env.action_spec),
        frames_per_batch=40,
        total_frames=80,
        ray_init_config=RAY,
        remote_configs={"num_cpus": 1},
    )
    writer = NStep(3, gamma=0.99)
    counts = [len(writer.transitions(batch)) for batch in collector]
    collector.shutdown()
    assert counts == [4 * (10 - 2), 4 * 10]
