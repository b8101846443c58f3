"""Sequences from buffers of transitions: within one episode, uniform by slices, prioritised by their first step."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Sequence, SliceSampler, TensorDictReplayBuffer

from tests.data.episodes import make_lanes, to_batch
from tm_torchrl.data import NStep, PrioritizedSampler, make_replay_buffer
from tm_torchrl.data.steps.n_step import TRAJECTORY

CAPACITY = 50


def filled(*, n: int, storage: str, num_lanes: int = 3, **options: object) -> TensorDictReplayBuffer:
    """A ring that has wrapped around, of lanes whose batches lie one after another."""
    n_step = NStep(n, gamma=0.5, frame_ids=storage == "frames", extra_keys=[TRAJECTORY], end_key="end")
    buffer = make_replay_buffer(capacity=CAPACITY, storage=storage, transforms=[n_step], seed=0, **options)
    num_steps = 132 // num_lanes
    lanes = make_lanes(1, num_lanes=num_lanes, num_steps=num_steps, end_share=0.15)
    for start in range(0, num_steps, 11):
        buffer.extend(to_batch([lane[start : start + 11] for lane in lanes], image_size=4, ids=True))
    assert len(buffer) == CAPACITY
    return buffer


def assert_one_episode(rows: TensorDict) -> None:
    """Rows that follow each other in the ring and in one lane's episode."""
    index = rows["index"].flatten()
    assert torch.equal(index, (index[0] + torch.arange(len(index))) % CAPACITY)
    assert (rows[TRAJECTORY] == rows[TRAJECTORY][0]).all()
    assert (rows["observation"].diff(dim=0)[:, 0] > 0).all()  # the seam of the ring would go back in time


@pytest.mark.parametrize("storage", ["memory", "frames"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("num_lanes", [1, 3])
def test_slices_stay_in_an_episode(storage: str, n: int, num_lanes: int) -> None:
    sampler = SliceSampler(slice_len=3, end_key="end")
    buffer = filled(n=n, storage=storage, num_lanes=num_lanes, batch_size=300, sampler=sampler)
    for rows in buffer.sample().view(100, 3):
        assert_one_episode(rows)


@pytest.mark.parametrize("storage", ["memory", "frames"])
@pytest.mark.parametrize("n", [1, 3])
def test_prioritised_sequences_stay_in_an_episode(storage: str, n: int) -> None:
    unit = Sequence(length=3, burn_in=2, bootstrap=1, done_key="end")
    buffer = filled(n=n, storage=storage, batch_size=100, sampler="prioritized", sample_unit=unit)
    lengths = []
    for rows in buffer.sample().view(100, 6):
        assert rows["validity_mask"][2], "the step that was drawn"
        assert_one_episode(rows[rows["validity_mask"]])
        lengths.append(int(rows["validity_mask"].sum()))
    assert set(lengths) >= {3, 4, 6}


def test_sequences_are_drawn_by_the_priority_of_their_first_step() -> None:
    """One episode of 4 steps with priorities 1, 5, 1, 3 and alpha 1: P = 0.1, 0.5, 0.1, 0.3."""
    buffer = make_replay_buffer(
        capacity=4,
        batch_size=10_000,
        sampler=PrioritizedSampler(4, alpha=1.0, beta=1.0, eps=0.0),
        sample_unit=Sequence(length=2, burn_in=1, done_key="end"),
        seed=0,
    )
    end = torch.tensor([[False], [False], [False], [True]])
    buffer.extend(TensorDict({"x": torch.arange(4), "end": end}, [4]))
    buffer.update_priority(torch.arange(4), torch.tensor([1.0, 5.0, 1.0, 3.0]))
    batch = buffer.sample().view(-1, 3)
    counts = batch["x"][:, 1].bincount()
    assert counts.tolist() == pytest.approx([1000, 5000, 1000, 3000], abs=150)  # 3 standard deviations of 50
    windows = {tuple(row.tolist()) for row in batch["x"]}
    assert windows == {(0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 3)}  # clamped at the ends, where validity is False
    weight = torch.tensor([1.0, 1 / 5, 1.0, 1 / 3])  # (p / least p)^-1
    assert torch.equal(batch["priority_weight"][:, 1], weight[batch["x"][:, 1]])

    batch = batch[torch.stack([(batch["x"][:, 1] == i).nonzero()[0, 0] for i in (0, 3)])]  # (0, 0, 1) and (2, 3, 3)
    error = torch.tensor([[9.0, 2.0, 4.0], [6.0, 7.0, 9.0]])  # invalid: the first of the one, the last of the other
    buffer.update_tensordict_priority(batch.reshape(-1).set("td_error", error.view(-1, 1)))
    assert buffer.sampler.state_dict()["tree"].tolist() == [4.0, 5.0, 1.0, 7.0]
