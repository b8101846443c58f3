"""Held-out share: its size, its unit, and how transitions are split into two buffers."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from tests.data.counting_steps import steps
from tm_torchrl.data import HeldOut, MiniRace, NStep, make_replay_buffer


def test_held_out_share_and_unit() -> None:
    number = torch.arange(2000).repeat_interleave(5)
    batch = TensorDict({("collector", "traj_ids"): number, "x": torch.arange(10_000)}, [10_000])
    train, test = HeldOut(share=0.05, seed=1).split(batch)
    held = set(test["collector", "traj_ids"].tolist())
    assert held.isdisjoint(train["collector", "traj_ids"].tolist())
    assert len(test) == 5 * len(held)
    assert abs(len(held) - 100) < 3 * 9.75  # binomial: deviation sqrt(2000 * 0.05 * 0.95)
    HeldOut(seed=2**60).split(batch)  # seeds may be large
    again = HeldOut(share=0.05, seed=1).split(batch)[1]
    assert torch.equal(test["x"], again["x"])
    assert not torch.equal(test["x"], HeldOut(share=0.05, seed=2).split(batch)[1]["x"])
    with pytest.raises(ValueError, match="share=1"):
        HeldOut(share=1.0)


def test_held_out_single_transitions_go_on() -> None:
    batch = TensorDict({"x": torch.arange(600)}, [600])
    whole = HeldOut(seed=4).split(batch)[1]["x"]
    parts = HeldOut(seed=4)
    first = parts.split(batch[:250])[1]["x"]
    resumed = HeldOut(seed=4)
    resumed.load_state_dict(parts.state_dict())
    assert torch.equal(whole, torch.cat([first, resumed.split(batch[250:])[1]["x"]]))


@pytest.mark.parametrize("storage", ["memory", "frames"])
def test_trajectories_of_an_n_step_writer_go_into_two_buffers(storage: str) -> None:
    """200 lanes, one trajectory each, come in by three batches: each lane is wholly in one buffer."""
    n_step = NStep(3, gamma=0.99, frame_ids=storage == "frames", extra_keys=[("collector", "traj_ids")])
    held_out = HeldOut(share=0.2, seed=0)
    train, test = (
        make_replay_buffer(capacity=6000, batch_size=4, storage=storage, transforms=[MiniRace(seed=0)])
        for _ in range(2)
    )
    for start in (0, 8, 16):
        batch = steps(8, start=start, lanes=200, episode_steps=10**9)
        batch["collector", "traj_ids"] = torch.arange(200).unsqueeze(-1).expand(200, 8)
        for buffer, part in zip((train, test), held_out.split(n_step.transitions(batch)), strict=True):
            buffer.extend(part)
    lanes = [set(buffer.storage[:]["collector", "traj_ids"].tolist()) for buffer in (train, test)]
    assert lanes[0] | lanes[1] == set(range(200)) and lanes[0].isdisjoint(lanes[1])
    assert (len(train), len(test)) == (22 * len(lanes[0]), 22 * len(lanes[1]))  # 24 steps make 22 transitions
    assert abs(len(lanes[1]) - 40) < 3 * 5.7  # binomial: deviation sqrt(200 * 0.2 * 0.8)
    for buffer in (train, test):
        rows = buffer.storage[:]
        assert torch.equal(rows["next", "observation"], rows["observation"] + 3)
        assert "steps_to_next_obs" in buffer.sample()  # the mini-race has what it needs
