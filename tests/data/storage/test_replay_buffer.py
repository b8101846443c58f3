"""make_replay_buffer, and the way from cars to updated priorities."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.data import LazyMemmapStorage, LazyTensorStorage
from torchrl.data.replay_buffers.samplers import RandomSampler
from torchrl.modules import RandomPolicy

from tm_torchrl.data import MiniRace, NStep, PrioritizedSampler, RowStorage, make_replay_buffer
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.world.tracker import Limits


def rows(num: int) -> TensorDict:
    return TensorDict({"x": torch.arange(num)}, [num])


def test_kinds() -> None:
    uniform = make_replay_buffer(capacity=10, batch_size=2)
    assert type(uniform.storage) is RowStorage and type(uniform.sampler) is RandomSampler
    made = make_replay_buffer(capacity=10, batch_size=2, sampler="prioritized", storage="memmap")
    assert type(made.storage) is LazyMemmapStorage
    assert (made.sampler.alpha, made.sampler.beta) == (0.6, 0.4)  # Schaul et al. 2016
    own, sampler = LazyTensorStorage(10), PrioritizedSampler(10, alpha=0.2, beta=0.3, priority_key="loss")
    made = make_replay_buffer(capacity=10, batch_size=2, storage=own, sampler=sampler)
    assert made.storage is own and made.sampler is sampler and made.priority_key == "loss"


@pytest.mark.parametrize("sampler", ["uniform", "prioritized"])
def test_seeds_decide_what_is_drawn(sampler: str) -> None:
    drawn = []
    for seed in (0, 0, 1):
        buffer = make_replay_buffer(capacity=1000, batch_size=32, sampler=sampler, seed=seed)
        buffer.extend(rows(1000))
        drawn.append(buffer.sample()["x"].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("sampler", ["uniform", "prioritized"])
@pytest.mark.parametrize("storage", ["memory", "frames"])
def test_from_cars_to_priorities(sampler: str, storage: str) -> None:
    torch.manual_seed(0)
    env = TrackManiaEnv(4, track="oval", pixels=True, limits=Limits(no_progress_s=9.0))
    buffer = make_replay_buffer(
        capacity=500,
        batch_size=16,
        sampler=sampler,
        storage=storage,
        transforms=[NStep(3, gamma=0.99, frame_ids=storage == "frames"), MiniRace(seed=0)],
        seed=0,
    )
    policy = RandomPolicy(env.action_spec)
    collector = Collector(env, policy, frames_per_batch=80, total_frames=160, replay_buffer=buffer)
    assert list(collector) == [None, None]  # it has written [4, 20] steps twice
    collector.shutdown()
    assert len(buffer) == 4 * (40 - 2) and not buffer[:]["next", "truncated"].any()
    if storage == "frames":
        assert buffer.storage.num_frames == 4 * (40 + 1)
    sample = buffer.sample()
    assert sample["pixels"].shape == sample["next", "pixels"].shape == (16, 1, 64, 64)
    assert torch.equal(sample["next", "observation"][:, 0], sample["observation"][:, 0] + 3)  # the clock
    assert torch.equal(sample["next", "terminated"].flatten(), sample["observation"][:, 0] >= 137)
    assert buffer.storage[:]["observation"][:, 0].unique().tolist() == [0.0]  # as in rollouts
    assert "steps_to_next_obs" in sample and ("priority_weight" in sample) == (sampler == "prioritized")
    buffer.update_tensordict_priority(sample.set("td_error", torch.linspace(1, 2, 16).unsqueeze(-1)))
    if sampler == "prioritized":
        tree = buffer.sampler.state_dict()["tree"]
        assert tree[sample["index"][-1]] == pytest.approx((2 + 1e-8) ** 0.6)


def test_errors() -> None:
    with pytest.raises(ValueError, match="capacity=0"):
        make_replay_buffer(capacity=0, batch_size=1)
    with pytest.raises(ValueError, match="storage='disk'"):
        make_replay_buffer(capacity=1, batch_size=1, storage="disk")
    with pytest.raises(ValueError, match="capacity=10: the storage has max_size=5"):
        make_replay_buffer(capacity=10, batch_size=1, storage=LazyTensorStorage(5))
    with pytest.raises(ValueError, match="sampler='slices'"):
        make_replay_buffer(capacity=1, batch_size=1, sampler="slices")
