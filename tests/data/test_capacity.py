"""Growing replay, reuse budget, held-out share."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from tm_torchrl.data import CapacitySchedule, HeldOut, ReuseBudget, make_replay_buffer, move_contents


def test_growing_keeps_contents_and_priorities() -> None:
    small, large = (make_replay_buffer(capacity=n, batch_size=4, prioritized=True, alpha=1.0, eps=0.0) for n in (6, 10))
    small.extend(TensorDict({"x": torch.arange(6)}, [6]))
    small.extend(TensorDict({"x": torch.arange(6, 8)}, [2]))  # over 0 and 1
    small.update_priority(torch.arange(6), torch.tensor([6.0, 7.0, 2.0, 3.0, 4.0, 5.0]))
    move_contents(small, large)
    assert large[:]["x"].tolist() == [2, 3, 4, 5, 6, 7]
    assert large.prioritized_sampler.state_dict()["tree"].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0, 0, 0, 0]
    large.extend(TensorDict({"x": torch.arange(8, 13)}, [5]))
    assert large[:]["x"].tolist() == [12, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    with pytest.raises(ValueError, match="holds 10 transitions"):
        move_contents(small, large)
    with pytest.raises(ValueError, match="room for 3"):
        move_contents(small, make_replay_buffer(capacity=3, batch_size=1))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([(5, 10, 1)], "first stage must begin at frame 0"),
        ([(0, 10, 11)], "never hold enough"),
        ([(0, 10, 1), (0, 20, 1)], "must come later"),
        ([(0, 10, 1), (5, 9, 1)], "be no smaller"),
    ],
)
def test_impossible_stages(stages: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CapacitySchedule(stages)


def test_every_transition_is_used_as_often_as_promised() -> None:
    """64 new transitions at a time, batches of 100, 8 uses each: 5.12 updates a time, so 512 in 100 times."""
    budget, num_updates = ReuseBudget(uses_per_transition=8), 0
    for time in range(100):
        budget.earn(64)
        if time == 50:  # and across a restart
            state, budget = budget.state_dict(), ReuseBudget(uses_per_transition=8)
            budget.load_state_dict(state)
        for _ in range(budget.num_updates(100)):
            budget.spend(100)
            num_updates += 1
    assert num_updates == 512
    with pytest.raises(ValueError, match="uses_per_transition=0"):
        ReuseBudget(uses_per_transition=0)


def test_held_out_share_and_unit() -> None:
    number = torch.arange(2000).repeat_interleave(5)
    batch = TensorDict({("collector", "traj_ids"): number, "x": torch.arange(10_000)}, [10_000])
    train, test = HeldOut(share=0.05, seed=1).split(batch)
    held = set(test["collector", "traj_ids"].tolist())
    assert held.isdisjoint(train["collector", "traj_ids"].tolist())
    assert len(test) == 5 * len(held)
    assert abs(len(held) - 100) < 3 * 9.75  # binomial: deviation sqrt(2000 * 0.05 * 0.95)
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
