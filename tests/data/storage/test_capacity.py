"""Replay buffers that grow."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import TensorDictReplayBuffer

from tests.data.counting_steps import steps
from tm_torchrl.data import CapacitySchedule, NStep, PrioritizedSampler, make_replay_buffer, move_contents
from tm_torchrl.data.storage import capacity as module


def prioritized(capacity: int) -> TensorDictReplayBuffer:
    sampler = PrioritizedSampler(capacity, alpha=1.0, beta=0.4, eps=0.0)
    return make_replay_buffer(capacity=capacity, batch_size=4, sampler=sampler)


def test_growing_keeps_contents_and_priorities() -> None:
    small, large = (prioritized(n) for n in (6, 10))
    small.extend(TensorDict({"x": torch.arange(6)}, [6]))
    small.extend(TensorDict({"x": torch.arange(6, 8)}, [2]))  # over 0 and 1
    small.update_priority(torch.arange(6), torch.tensor([6.0, 7.0, 2.0, 3.0, 4.0, 5.0]))
    move_contents(small, large)
    assert large[:]["x"].tolist() == [2, 3, 4, 5, 6, 7]
    assert large.sampler.state_dict()["tree"].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0, 0, 0, 0]
    large.extend(TensorDict({"x": torch.arange(8, 13)}, [5]))
    assert large[:]["x"].tolist() == [12, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    with pytest.raises(ValueError, match="holds 10 transitions"):
        move_contents(small, large)
    with pytest.raises(ValueError, match="capacity is 3"):
        move_contents(small, make_replay_buffer(capacity=3, batch_size=1))


@pytest.mark.parametrize("storage", ["memory", "memmap", "frames"])
def test_a_grown_buffer_behaves_as_if_it_had_always_been_large(storage: str) -> None:
    def make(capacity: int) -> object:
        n_step = NStep(3, gamma=0.99, frame_ids=storage == "frames")
        return make_replay_buffer(
            capacity=capacity, batch_size=8, sampler="prioritized", storage=storage, transforms=[n_step], seed=0
        )

    small, large, always_large = make(40), make(90), make(90)
    for buffer in (small, always_large):
        buffer.extend(steps(10))
        buffer.sample()
        buffer.update_priority(torch.arange(5), torch.tensor([6.0, 7.0, 2.0, 3.0, 4.0]))
        buffer.extend(steps(9, start=10))  # 2 * (19 - 2) transitions; two steps of each lane are pending
    move_contents(small, large)
    for start, num in ((19, 1), (20, 8), (28, 30)):  # and around the end of the large one
        samples = []
        for buffer in (large, always_large):
            buffer.extend(steps(num, start=start))
            samples.append(buffer.sample())
        assert set(samples[0].keys(True, True)) == set(samples[1].keys(True, True))
        assert all(torch.equal(samples[0][key], samples[1][key]) for key in samples[0].keys(True, True))
    assert len(large) == len(always_large) == 90
    assert torch.equal(*(buffer.sampler.state_dict()["tree"] for buffer in (large, always_large)))
    assert len(small) == 34


@pytest.mark.parametrize("storage", ["memory", "frames"])
def test_a_buffer_that_has_wrapped_around_grows_in_order(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lanes of 19 steps; 20 places hold the last 20 of 2 * (19 - 2) transitions."""
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)  # copied by 7, 7 and 6

    def make(capacity: int) -> object:
        n_step = NStep(3, gamma=0.99, frame_ids=storage == "frames")
        return make_replay_buffer(capacity=capacity, batch_size=8, storage=storage, transforms=[n_step])

    small, large, always_large = make(20), make(50), make(50)
    for buffer in (small, always_large):
        for start, num in ((0, 6), (6, 4), (10, 3), (13, 6)):
            buffer.extend(steps(num, start=start))
    move_contents(small, large)
    rows, expected = large.storage[:], always_large.storage[:][-20:]
    for key in ("observation", ("next", "observation"), ("next", "reward"), "step_rewards"):
        assert torch.equal(rows[key], expected[key])


def test_growing_a_buffer_that_was_built_otherwise() -> None:
    small = make_replay_buffer(capacity=4, batch_size=2)
    small.extend(TensorDict({"x": torch.arange(4)}, [4]))
    with pytest.raises(ValueError, match="sampler='PrioritizedSampler': the source has"):
        move_contents(small, make_replay_buffer(capacity=8, batch_size=2, sampler="prioritized"))
    with pytest.raises(ValueError, match=r"transforms=\['NStep'\]: the source has"):
        move_contents(small, make_replay_buffer(capacity=8, batch_size=2, transforms=[NStep(3, gamma=0.9)]))


@pytest.mark.parametrize("storage", ["memory", "frames"])
def test_growing_an_empty_buffer(storage: str) -> None:
    small, large = (make_replay_buffer(capacity=n, batch_size=2, storage=storage) for n in (4, 8))
    move_contents(small, large)
    assert len(large) == 0


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([(5, 10, 1)], r"stages=\[\(5, 10, 1\)\]"),
        ([(0, 10, 11)], "capacity=10, learning_starts=11"),
        ([(0, 10, 1), (0, 20, 1)], "must begin later"),
        ([(0, 10, 1), (5, 9, 1)], "not be smaller"),
    ],
)
def test_impossible_stages(stages: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CapacitySchedule(stages)
