"""The memory of PPO: hand-worked advantages, minibatches that cover each epoch, and continuing from a saved state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from tm_torchrl.data import Rollouts


def steps_of(
    rewards: list[list[float]],
    *,
    first: int = 1,
    terminated: list[tuple[int, int]] = (),  # type: ignore[assignment]
    truncated: list[tuple[int, int]] = (),  # type: ignore[assignment]
    trajectory: int = 0,
) -> TensorDict:
    """Steps ``[N, T]`` whose observation is its number in the lane, from ``first``; those after are one higher."""
    reward = torch.tensor(rewards).unsqueeze(-1)
    num, length, _ = reward.shape
    state = (first + torch.arange(length, dtype=torch.float32)).expand(num, length).unsqueeze(-1)
    ends, cuts = (torch.zeros(num, length, 1, dtype=torch.bool) for _ in range(2))
    for mask, places in ((ends, terminated), (cuts, truncated)):
        for place in places:
            mask[place] = True
    lane = torch.arange(num).unsqueeze(1).expand(num, length).clone()
    after = {"observation": state + 1, "reward": reward, "done": ends | cuts, "terminated": ends}
    entries = {
        "observation": state,
        "action": torch.zeros(num, length, dtype=torch.int64),
        "action_log_prob": torch.zeros(num, length),
        "next": after,
        "collector": {"traj_ids": torch.full((num, length), trajectory), "lane": lane},
    }
    return TensorDict(entries, [num, length])


def ten_times(states: TensorDictBase) -> Tensor:
    """The value of a state is ten times its number."""
    return 10.0 * states["observation"]


def rollouts(**options: Any) -> Rollouts:
    defaults: dict[str, Any] = {
        "frames_per_update": 3, "num_epochs": 1, "minibatch_size": 3, "gae_lambda": 0.5, "gamma": 0.5,
        "values": ten_times,
    }  # fmt: skip
    return Rollouts(**{**defaults, **options})


def advantages(memory: Rollouts) -> dict[float, tuple[float, float]]:
    """Advantage and target by the state's number."""
    (batch,) = memory.batches()
    rows = zip(*(batch[key].flatten().tolist() for key in ("observation", "advantage", "value_target")), strict=True)
    return {state: (advantage, target) for state, advantage, target in rows}


def test_advantages_of_an_episode_that_goes_on() -> None:
    """Rewards 1, values 10, 20, 30, and 40 after the last; gamma and lambda 1/2.

    Errors: 1 + 20/2 - 10 = 1, 1 + 30/2 - 20 = -4, 1 + 40/2 - 30 = -9.
    Advantages: -9; -4 - 9/4 = -6.25; 1 - 6.25/4 = -0.5625.
    """
    memory = rollouts()
    memory.extend(steps_of([[1.0, 1.0, 1.0]]))
    found = advantages(memory)
    assert {state: advantage for state, (advantage, _) in found.items()} == {1.0: -0.5625, 2.0: -6.25, 3.0: -9.0}
    assert {state: target for state, (_, target) in found.items()} == {1.0: 9.4375, 2.0: 13.75, 3.0: 21.0}


def test_a_terminated_episode_ends_in_nothing() -> None:
    """The second step ends the episode: its error is 1 - 20 = -19, and the first is 1 - 19/4 = -3.75."""
    memory = rollouts()
    memory.extend(steps_of([[1.0, 1.0, 1.0]], terminated=[(0, 1)]))
    found = advantages(memory)
    assert (found[1.0][0], found[2.0][0], found[3.0][0]) == (-3.75, -19.0, -9.0)


def test_a_truncated_episode_ends_in_the_value_of_its_last_state() -> None:
    """The last state of the episode is number 3 with value 30, whatever state the next episode begins in (100).

    The second error stays 1 + 30/2 - 20 = -4, and the third step adds nothing to it: 1 - 4/4 = 0.
    """
    memory = rollouts()
    steps = steps_of([[1.0, 1.0, 1.0]], truncated=[(0, 1)])
    steps["observation"][0, 2] = 100.0
    memory.extend(steps)
    found = advantages(memory)
    assert (found[1.0][0], found[2.0][0]) == (0.0, -4.0)
    assert found[100.0][0] == 1 + 40 / 2 - 1000


def test_two_batches_are_one_rollout() -> None:
    """As the three steps in one batch; the first batch is not enough to learn from."""
    memory = rollouts()
    memory.extend(steps_of([[1.0, 1.0]]))
    assert list(memory.batches()) == [] and len(memory) == 2
    memory.extend(steps_of([[1.0]], first=3))
    assert advantages(memory)[1.0] == (-0.5625, 9.4375)
    assert len(memory) == 0 and list(memory.batches()) == []


def test_an_episode_that_a_failure_broke_off_is_cut() -> None:
    """The lane's trajectory has another number: the second step ends in the value of the state after it, 30."""
    memory = rollouts()
    memory.extend(steps_of([[1.0, 1.0]], trajectory=0))
    memory.extend(steps_of([[1.0]], first=100, trajectory=1))
    found = advantages(memory)
    assert (found[1.0][0], found[2.0][0]) == (0.0, -4.0)


def test_lanes_of_several_workers_are_kept_apart() -> None:
    """Batches of two workers that arrive in any order."""
    memory = rollouts(frames_per_update=6, minibatch_size=6)
    one, other = steps_of([[1.0, 1.0]]), steps_of([[3.0, 3.0]])
    other["collector", "lane"] += 1
    last = steps_of([[3.0]], first=3)
    last["collector", "lane"] += 1
    for steps in (one, other, last, steps_of([[1.0]], first=3)):
        memory.extend(steps)
    (batch,) = memory.batches()
    is_first = batch["observation"].flatten() == 1
    # With rewards of 3 all errors are 2 higher: 3, -2, -7, so 3 - 2/4 - 7/16 = 2.0625.
    assert sorted(batch["advantage"].flatten()[is_first].tolist()) == [-0.5625, 2.0625]


def test_each_epoch_holds_each_step_once_in_another_order() -> None:
    memory = rollouts(frames_per_update=10, num_epochs=2, minibatch_size=4)
    memory.extend(steps_of([[0.0] * 10]))
    parts = [batch["observation"].flatten().tolist() for batch in memory.batches()]
    assert [len(part) for part in parts] == [5, 5, 5, 5]  # two equal ones instead of 4, 4 and 2
    first, second = parts[0] + parts[1], parts[2] + parts[3]
    assert sorted(first) == sorted(second) == [float(i) for i in range(1, 11)]
    assert first != second != sorted(second)


def seen(memory: Rollouts, batch: TensorDictBase, kl: float) -> None:
    batch["diagnostics"] = torch.full((len(batch), 1), kl)
    memory.seen(batch)


def test_the_epochs_end_where_the_policy_has_moved_too_far() -> None:
    """1.5 times 0.02 is 0.03: the second update is the last one; the mean divergence is that of two."""
    memory = rollouts(frames_per_update=8, num_epochs=3, minibatch_size=4, target_kl=0.02)
    memory.extend(steps_of([[0.0] * 8]))
    num = 0
    for kl, batch in zip((0.03, 0.05, 9.0), memory.batches(), strict=False):
        seen(memory, batch, kl)
        num += 1
    assert num == 2
    assert memory.metrics()["kl"] == pytest.approx(0.04) and memory.metrics()["updates_of_rollout"] == 2
    memory.extend(steps_of([[0.0] * 8]))
    assert next(iter(memory.batches())) is not None, "the next rollout is learnt from as usual"


def test_explained_variance() -> None:
    """Gamma 0: targets are the rewards 10, 20, 60, values 10, 20, 30.

    The variance of the errors 0, 0, 30 is 200, that of the targets 1400 / 3.
    """
    memory = rollouts(gamma=0.0)
    memory.extend(steps_of([[10.0, 20.0, 60.0]]))
    (batch,) = memory.batches()
    seen(memory, batch, 0.0)
    assert memory.metrics()["explained_variance"] == pytest.approx(1 - 200 / (1400 / 3))


def test_it_continues_within_an_epoch() -> None:
    def run(memory: Rollouts, num: int) -> list[list[float]]:
        found = []
        for _, batch in zip(range(num), memory.batches(), strict=False):
            found.append(batch["observation"].flatten().tolist())
            seen(memory, batch, 0.01)
        return found

    whole, parts = (rollouts(frames_per_update=8, num_epochs=3, minibatch_size=4) for _ in range(2))
    for memory in (whole, parts):
        memory.extend(steps_of([[0.0] * 8]))
    expected = run(whole, 6)
    begun = run(parts, 3)
    continued = rollouts(frames_per_update=8, num_epochs=3, minibatch_size=4, seed=5)
    continued.load_state_dict(parts.state_dict())
    assert begun + run(continued, 3) == expected
    assert continued.metrics() == whole.metrics()


@pytest.mark.parametrize(
    "options",
    [
        {"frames_per_update": 0},
        {"num_epochs": 0},
        {"minibatch_size": 0},
        {"minibatch_size": 4},
        {"gae_lambda": 1.5},
        {"gamma": -0.1},
        {"target_kl": 0.0},
    ],
)
def test_wrong_arguments_are_named(options: dict[str, float]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"^{name}={value}: must be"):
        rollouts(**options)


def test_sequences_by_hand() -> None:
    """Five steps as sequences of three: the second is padded by one; an episode ends with the second step."""
    memory = rollouts(frames_per_update=5, minibatch_size=5, sequence_length=3, memory_key="memory")
    steps = steps_of([[1.0, 1.0, 1.0, 1.0, 1.0]], terminated=[(0, 1)])
    steps["memory"], steps["next", "memory"] = 7.0 * steps["observation"], 7.0 * steps["next", "observation"]
    memory.extend(steps)
    (batch,) = memory.batches()
    batch = batch[batch["observation"][:, 0, 0].argsort()]
    assert batch["observation"].squeeze(-1).tolist() == [[1, 2, 3], [4, 5, 0]]
    assert batch["memory"][:, 0].tolist() == [[7.0], [28.0]]
    assert batch["learning_mask"].tolist() == [[True, True, True], [True, True, False]]
    assert batch["is_init"].tolist() == [[False, False, True], [False, False, False]]
    whole = rollouts(frames_per_update=5, minibatch_size=5)
    whole.extend(steps_of([[1.0, 1.0, 1.0, 1.0, 1.0]], terminated=[(0, 1)]))
    found = batch["advantage"].flatten()[:5].tolist()
    assert found == pytest.approx([advantage for _, (advantage, _) in sorted(advantages(whole).items())])
    with pytest.raises(ValueError, match="sequence_length=0"):
        rollouts(sequence_length=0)
