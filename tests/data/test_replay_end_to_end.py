"""All parts of replay together: a collector drives cars, a buffer stores the steps and samples them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import RandomPolicy

from tm_torchrl.data import FrameStorage, MiniRace, NStep
from tm_torchrl.envs import TrackManiaEnv


def make_env() -> TrackManiaEnv:
    return TrackManiaEnv(4, track="oval", pixels=True)


def drive(num_batches: int) -> list[TensorDict]:
    env = make_env()
    env.set_seed(0)
    torch.manual_seed(0)
    collector = Collector(
        env, RandomPolicy(env.action_spec), frames_per_batch=32, total_frames=32 * num_batches, trust_policy=True
    )
    batches = [batch.clone() for batch in collector]
    collector.shutdown()
    return batches


@pytest.fixture(scope="module")
def batches() -> list[TensorDict]:
    return drive(5)


def test_frames_from_a_collector_are_kept_once(batches: list[TensorDict]) -> None:
    """5 batches of 8 steps of 4 cars: 40 - 2 transitions each lead to 40 + 1 frames if no episode ends."""
    assert not any(bool(batch["next", "done"].any()) for batch in batches)
    ours = TensorDictReplayBuffer(storage=FrameStorage(1000), batch_size=16)
    ours.append_transform(NStep(3, gamma=0.99, frame_ids=True))
    plain = TensorDictReplayBuffer(storage=LazyTensorStorage(1000), batch_size=16)
    plain.append_transform(NStep(3, gamma=0.99))
    for batch in batches:
        ours.extend(batch)
        plain.extend(batch)
    assert len(ours) == 4 * 38
    assert ours.storage.num_frames == 4 * 41
    assert bool((ours[:] == plain[:].exclude("index")).all())


def test_mini_race_over_frames(batches: list[TensorDict]) -> None:
    buffer = TensorDictReplayBuffer(storage=FrameStorage(1000), batch_size=64)
    buffer.append_transform(NStep(3, gamma=1.0, frame_ids=True)).append_transform(MiniRace(seed=0))
    for batch in batches:
        buffer.extend(batch)
    sample = buffer.sample()
    assert sample["pixels"].shape == sample["next", "pixels"].shape == (64, 1, 64, 64)
    assert torch.equal(sample["next", "observation"][:, 0], sample["observation"][:, 0] + 3)
    assert torch.equal(sample["next", "terminated"].flatten(), sample["observation"][:, 0] >= 137)
    assert buffer.storage[:]["observation"][:, 0].unique().tolist() == [0.0]  # the clock stays 0 in rollouts


def test_transforms_of_a_buffer_can_be_copied_and_pickled(batches: list[TensorDict]) -> None:
    buffer = TensorDictReplayBuffer(storage=FrameStorage(1000), batch_size=8)
    buffer.append_transform(NStep(3, gamma=1.0, frame_ids=True)).append_transform(MiniRace(seed=0))
    buffer.extend(batches[0])
    transform = buffer._transform
    for other in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        found = other.inv(batches[1]).exclude("frame_id", ("next", "frame_id"))
        expected = copy.deepcopy(transform).inv(batches[1]).exclude("frame_id", ("next", "frame_id"))
        assert bool((found == expected).all())
        assert torch.equal(other[1].draw_clocks(9), copy.deepcopy(transform)[1].draw_clocks(9))
