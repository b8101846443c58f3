"""The memory of DPO: hand-worked pairs, ties, padding, and continuing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict

from tests.data.test_groups import steps_of
from tm_torchrl.data import Pairs


def pairs(**options: Any) -> Pairs:
    defaults: dict[str, Any] = {
        "group_size": 2, "frames_per_update": 3, "num_epochs": 1, "minibatch_size": 1, "gamma": 1.0,
    }  # fmt: skip
    return Pairs(**{**defaults, **options})


def seen(memory: Pairs) -> list[TensorDict]:
    found = []
    for batch in memory.batches():
        batch["diagnostics"] = torch.zeros(len(batch), 1)
        memory.seen(batch)
        found.append(batch)
    return found


def one_group(rewards: list[float]) -> TensorDict:
    """Trajectories 3, 4, ... of group 7; the first has two steps, the others one, which all are their ends."""
    lanes = [[(7, 0, 0.0), (7, 1, rewards[0])], *[[(7, 0, reward), (9, 0, 0.0)] for reward in rewards[1:]]]
    trajectories = [[3, 3], *[[4 + i, 50 + i] for i in range(len(rewards) - 1)]]
    done = [(0, 1), *[(i, 0) for i in range(1, len(rewards))]]
    return steps_of(lanes, trajectories=trajectories, done=done)


def test_the_better_episode_comes_first_and_the_shorter_is_padded() -> None:
    memory = pairs()
    memory.extend(one_group([1.0, 5.0]))
    (batch,) = seen(memory)
    assert batch["mask"].tolist() == [[[True, False], [True, True]]]
    assert batch["steps", "observation"][batch["mask"]].flatten().tolist() == [400, 300, 301]
    assert memory.metrics()["return_difference"] == 4 and memory.metrics()["tied_pairs"] == 0


def test_discounted_returns_are_compared() -> None:
    """Gamma 1/10: the first episode's 5 counts 0.5 after a step, less than the second's 1."""
    memory = pairs(gamma=0.1)
    memory.extend(one_group([5.0, 1.0]))
    (batch,) = seen(memory)
    assert batch["steps", "observation"][0, 0, 0].tolist() == [400]


@pytest.mark.parametrize(("least", "num"), [(0.0, 1), (3.9, 1), (4.0, 0)])
def test_ties_make_no_pair(least: float, num: int) -> None:
    """Returns 6, 2, 4, 4: the pair (6, 2) differs by 4; (4, 4) is a tie."""
    memory = pairs(group_size=4, least_difference=least)
    memory.extend(one_group([6.0, 2.0, 4.0, 4.0]))
    batches = seen(memory)
    assert [len(batch) for batch in batches] == [1] * num
    if num:
        assert memory.metrics()["tied_pairs"] == 0.5
    memory.extend(one_group([6.0, 2.0, 4.0, 4.0]))
    assert len(seen(memory)) == num, "a rollout without pairs is over at once"


def test_it_continues_from_a_saved_state() -> None:
    whole, parts = pairs(num_epochs=2), pairs(num_epochs=2)
    for memory in (whole, parts):
        memory.extend(one_group([1.0, 5.0]))
    next(batches := whole.batches())
    next(parts.batches())
    again = pairs(num_epochs=2)
    again.load_state_dict(parts.state_dict())
    rest, expected = list(again.batches()), list(batches)
    assert len(rest) == len(expected) == 1
    assert torch.equal(rest[0]["steps", "observation"], expected[0]["steps", "observation"])


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="least_difference=-1"):
        pairs(least_difference=-1)
    with pytest.raises(ValueError, match="group_size=1"):
        pairs(group_size=1)
