"""The memory of GRPO: hand-worked baselines of groups, groups that are not complete or broken, and continuing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from tm_torchrl.data import Groups
from tm_torchrl.data.groups import group_advantages
from tm_torchrl.settings import ConfigError

Step = tuple[int, int, float]  # group, steps since the start, reward


def steps_of(lanes: list[list[Step]], *, trajectories: list[list[int]], done: list[tuple[int, int]] = ()) -> TensorDict:  # type: ignore[assignment]
    """Steps ``[N, T]`` whose observation is 100 times the trajectory plus the step."""
    place = torch.tensor([[step[:2] for step in lane] for lane in lanes])
    numbers = torch.tensor(trajectories)
    is_done = torch.zeros(*numbers.shape, 1, dtype=torch.bool)
    for at in done:
        is_done[at] = True
    reward = torch.tensor([[step[2] for step in lane] for lane in lanes]).unsqueeze(-1)
    entries = {
        "observation": (100.0 * numbers + place[..., 1]).unsqueeze(-1),
        "action": torch.zeros_like(numbers),
        "action_log_prob": torch.zeros(numbers.shape),
        "group": place,
        "next": {"reward": reward, "done": is_done},
        "collector": {"traj_ids": numbers},
    }
    return TensorDict(entries, numbers.shape)


def groups(**options: Any) -> Groups:
    defaults: dict[str, Any] = {
        "group_size": 2, "frames_per_update": 3, "num_epochs": 1, "minibatch_size": 3, "gamma": 1.0,
        "divide_by_deviation": False,
    }  # fmt: skip
    return Groups(**{**defaults, **options})


def advantages(memory: Groups) -> dict[float, float]:
    """By the state's number."""
    found = {}
    for batch in memory.batches():
        found.update(zip(batch["observation"].flatten().tolist(), batch["advantage"].flatten().tolist(), strict=True))
        batch["diagnostics"] = torch.zeros(len(batch), 1)
        memory.seen(batch)
    return found


def test_advantages_of_two_groups() -> None:
    """Gamma 1/2. Group 5: returns 1 + 2/2 + 4/4 = 3, 2 and 7, mean 4. Group 9: returns 6 and 2, mean 4.

    Advantages -1 (three steps), -2, 3; 2, -2. Deviations: sqrt((1 + 4 + 9) / 2) = 2.6458, sqrt((4 + 4) / 1) = 2.8284.
    """
    reward = torch.tensor([1.0, 2.0, 4.0, 2.0, 7.0, 6.0, 2.0])
    place = torch.tensor([[5, 0], [5, 1], [5, 2], [5, 0], [5, 0], [9, 0], [9, 0]])
    trajectory = torch.tensor([10, 10, 10, 11, 14, 12, 13])
    found, spread = group_advantages(reward, place=place, trajectory=trajectory, gamma=0.5, divide_by_deviation=False)
    assert found.tolist() == [-1.0, -1.0, -1.0, -2.0, 3.0, 2.0, -2.0]
    assert spread.tolist() == pytest.approx([14**0.5 / 2**0.5, 8**0.5])
    scaled, _ = group_advantages(reward, place=place, trajectory=trajectory, gamma=0.5, divide_by_deviation=True)
    assert scaled.tolist() == pytest.approx([-0.37796] * 3 + [-0.75593, 1.13389, 0.70711, -0.70711], abs=1e-4)


def test_advantages_are_torchrls() -> None:
    """``MCAdvantage`` divides by the same deviation; it takes whole episodes, in order of their groups."""
    from torchrl.objectives.llm.grpo import MCAdvantage

    torch.manual_seed(0)
    reward = torch.randn(12)
    place = torch.stack([torch.arange(3).repeat_interleave(4), torch.zeros(12, dtype=torch.int64)], -1)
    found, _ = group_advantages(reward, place=place, trajectory=torch.arange(12), gamma=1.0, divide_by_deviation=True)
    transform = MCAdvantage(grpo_size=4, prompt_key="group", rewards_key=("next", "reward"))
    theirs = []
    for i in range(12):
        after = {"reward": reward[i].reshape(1, 1), "done": torch.ones(1, 1, dtype=torch.bool)}
        episode = TensorDict({"group": place[i, :1], "next": TensorDict(after, [1])}, [1])
        out = transform.inv(episode)
        if out is not None:
            theirs.append(out["advantage"].flatten())
    torch.testing.assert_close(found, torch.cat(theirs), rtol=1e-4, atol=1e-5)


def test_equal_returns_teach_nothing() -> None:
    memory = groups(frames_per_update=2, minibatch_size=2, divide_by_deviation=True)
    memory.extend(steps_of([[(0, 0, 0.7)], [(0, 0, 0.7)]], trajectories=[[0], [1]], done=[(0, 0), (1, 0)]))
    assert advantages(memory) == {0.0: 0.0, 100.0: 0.0}
    assert memory.metrics()["equal_groups"] == 1.0 and memory.metrics()["group_spread"] == 0.0


def test_a_group_waits_until_its_last_episode_ends() -> None:
    """Lane 0 ends group 0's first episode and begins group 1; lane 1 plays group 0's second one for three steps.

    Group 0: returns 1 and 6, so -2.5 (one step) and 2.5 (three); group 1's two steps wait for the next update, where
    returns 3 + 3 and 0 give 3 and -3.
    """
    memory = groups()
    first = [[(0, 0, 1.0), (1, 0, 3.0)], [(0, 0, 2.0), (0, 1, 2.0)]]
    memory.extend(steps_of(first, trajectories=[[0, 2], [1, 1]], done=[(0, 0)]))
    assert len(memory) == 0 and advantages(memory) == {}
    memory.extend(steps_of([[(1, 1, 3.0)], [(0, 2, 2.0)]], trajectories=[[2], [1]], done=[(0, 0), (1, 0)]))
    assert len(memory) == 4
    assert advantages(memory) == {0.0: -2.5, 100.0: 2.5, 101.0: 2.5, 102.0: 2.5}
    assert memory.metrics()["group_spread"] == pytest.approx(5 / 2**0.5)
    assert len(memory) == 0
    memory.extend(steps_of([[(2, 0, 1.0)], [(1, 0, 0.0)]], trajectories=[[4], [3]], done=[(1, 0)]))
    assert advantages(memory) == {200.0: 3.0, 201.0: 3.0, 300.0: -3.0}


def test_a_group_with_an_episode_that_a_failure_broke_off_is_forgotten() -> None:
    """Trajectory 1 becomes 5 without an end: group 0 is gone, with its first episode; the new worker's counts."""
    memory = groups()
    memory.extend(steps_of([[(0, 0, 1.0)], [(0, 0, 2.0)]], trajectories=[[0], [1]], done=[(0, 0)]))
    again = [[(0, 0, 5.0), (1, 0, 0.0)], [(0, 0, 1.0), (0, 1, 2.0)]]
    memory.extend(steps_of(again, trajectories=[[4, 6], [5, 5]], done=[(0, 0), (1, 1)]))
    assert advantages(memory) == {400.0: 1.0, 500.0: -1.0, 501.0: -1.0}


def test_it_continues_with_what_waits() -> None:
    parts = [
        steps_of([[(0, 0, 1.0)], [(0, 0, 2.0)]], trajectories=[[0], [1]], done=[(0, 0)]),
        steps_of([[(1, 0, 1.0)], [(0, 1, 2.0)]], trajectories=[[2], [1]], done=[(1, 0)]),
    ]
    memory = groups()
    memory.extend(parts[0])
    again = groups(seed=4)
    again.load_state_dict(memory.state_dict())
    again.extend(parts[1])
    complete = groups()
    complete.load_state_dict(again.state_dict())
    assert len(again) == len(complete) == 3
    assert advantages(again) == advantages(complete) == {0.0: -1.5, 100.0: 1.5, 101.0: 1.5}
    assert again.metrics() == complete.metrics()


def test_groups_that_do_not_fill_are_one_line() -> None:
    memory = groups()
    memory.most_waiting = 4
    parts = [steps_of([[(0, i, 1.0)], [(0, i, 1.0)]], trajectories=[[0], [1]]) for i in range(3)]
    memory.extend(parts[0])
    memory.extend(parts[1])
    with pytest.raises(ConfigError, match=r"^group_size=2: groups do not fill: 6 steps .*segment_steps") as caught:
        memory.extend(parts[2])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"group_size": 1}, {"gamma": 1.5}, {"minibatch_size": 4}, {"target_kl": 0.0}])
def test_wrong_arguments_are_named(options: dict[str, float]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"^{name}={value}: must be"):
        groups(**options)


def test_steps_count_equally_whatever_order_episodes_have() -> None:
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    reward = torch.tensor([1.0, 2.0, 4.0, 2.0, 7.0, 6.0, 2.0])
    place = torch.tensor([[5, 0], [5, 1], [5, 2], [5, 0], [5, 0], [9, 0], [9, 0]])
    trajectory = torch.tensor([10, 10, 10, 11, 14, 12, 13])

    def found(rows: Tensor) -> Tensor:
        return group_advantages(
            reward[rows], place=place[rows], trajectory=trajectory[rows], gamma=0.5, divide_by_deviation=True
        )[0]

    torch.testing.assert_close(found(order), found(torch.arange(7))[order])
