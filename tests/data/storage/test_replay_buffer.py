"""make_replay_buffer, and the way from cars to updated priorities."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.data import LazyMemmapStorage, LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import RandomPolicy

from tm_torchrl.data import (
    FrameStorage,
    MiniRace,
    NStep,
    RowStorage,
    TensorDictPrioritizedReplayBuffer,
    make_replay_buffer,
)
from tm_torchrl.envs import TrackManiaEnv


def rows(num: int) -> TensorDict:
    return TensorDict({"x": torch.arange(num)}, [num])


def test_kinds(tmp_path) -> None:
    uniform = make_replay_buffer(capacity=10, batch_size=2)
    assert type(uniform) is TensorDictReplayBuffer
    assert type(uniform.storage) is RowStorage
    prioritized = make_replay_buffer(
        capacity=10, batch_size=2, prioritized=True, storage="memmap", scratch_dir=tmp_path / "replay"
    )
    assert type(prioritized) is TensorDictPrioritizedReplayBuffer
    assert type(prioritized.storage) is LazyMemmapStorage
    prioritized.extend(rows(5))
    assert list((tmp_path / "replay").rglob("x.memmap"))
    own = LazyTensorStorage(10)
    assert make_replay_buffer(capacity=10, batch_size=2, storage=own).storage is own


@pytest.mark.parametrize("prioritized", [False, True])
def test_seeds_decide_what_is_drawn(prioritized: bool) -> None:
    drawn = []
    for seed in (0, 0, 1):
        buffer = make_replay_buffer(capacity=1000, batch_size=32, prioritized=prioritized, seed=seed)
        buffer.extend(rows(1000))
        drawn.append(buffer.sample()["x"].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("storage", ["memory", "frames"])
def test_from_cars_to_priorities(prioritized: bool, storage: str) -> None:
    env = TrackManiaEnv(4, track="oval", pixels=True)
    buffer = make_replay_buffer(
        capacity=500,
        batch_size=16,
        prioritized=prioritized,
        storage=storage,
        n_step=NStep(3, gamma=0.99, frame_ids=storage == "frames"),
        mini_race=MiniRace(seed=0),
        seed=0,
    )
    collector = Collector(env, RandomPolicy(env.action_spec), frames_per_batch=80, total_frames=160)
    for batch in collector:
        buffer.extend(batch)
    collector.shutdown()
    sample = buffer.sample()
    assert sample["pixels"].shape == sample["next", "pixels"].shape == (16, 1, 64, 64)
    assert "steps_to_next_obs" in sample and ("priority_weight" in sample) == prioritized
    if prioritized:
        priority = torch.linspace(1, 2, 16).unsqueeze(-1)
        buffer.update_tensordict_priority(sample.set("td_error", priority))
        tree = buffer.sampler.state_dict()["tree"]
        assert tree[sample["index"][-1]] == pytest.approx((2 + 1e-8) ** 0.6)


def test_errors(tmp_path) -> None:
    with pytest.raises(ValueError, match="capacity=0"):
        make_replay_buffer(capacity=0, batch_size=1)
    with pytest.raises(ValueError, match="storage='disk'"):
        make_replay_buffer(capacity=1, batch_size=1, storage="disk")
    with pytest.raises(ValueError, match="capacity=10: the storage has max_size=5"):
        make_replay_buffer(capacity=10, batch_size=1, storage=LazyTensorStorage(5))
    with pytest.raises(ValueError, match="scratch_dir"):
        make_replay_buffer(capacity=10, batch_size=1, scratch_dir=tmp_path)
    with pytest.raises(ValueError, match="mini_race"):
        make_replay_buffer(capacity=10, batch_size=1, mini_race=MiniRace())
    with pytest.raises(ValueError, match="frame_ids=True"):
        make_replay_buffer(capacity=10, batch_size=1, storage="frames", n_step=NStep(3, gamma=0.99))
    assert isinstance(make_replay_buffer(capacity=10, batch_size=1, storage="frames").storage, FrameStorage)
