"""A share of each batch comes from demonstrations, which stay."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from tm_torchrl.data import DemonstrationShare, Replay


def steps(number: int, length: int) -> TensorDict:
    """An episode whose floats are its number."""
    value = torch.full((1, length, 1), float(number))
    done = torch.zeros(1, length, 1, dtype=torch.bool)
    done[0, -1] = True
    after = {"observation": value, "reward": value, "done": done, "terminated": done}
    given = {"observation": value, "action": torch.zeros(1, length).long(), "is_greedy": ~done.squeeze(-1)}
    return TensorDict({**given, "next": after}, [1, length])


def replay(**options) -> Replay:
    return Replay(
        capacity=20,
        batch_size=8,
        uses_per_transition=1.0,
        gamma=0.9,
        demonstrations=DemonstrationShare("laps", **options),
    )


def filled(**options) -> Replay:
    memory = replay(**options)
    memory.add_demonstrations([steps(1, 5), steps(2, 5)])
    memory.extend(steps(3, 60))
    return memory


def numbers(memory: Replay) -> list[int]:
    batch = memory.sample()
    assert batch.shape == (8,)
    return batch["observation"].flatten().int().tolist()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("share", "expected"), [(0.5, 4), (0.25, 2), (0.0, 0)])
def test_a_batch_has_its_share(share: float, expected: int) -> None:
    memory = filled(share=share)
    for _ in range(5):
        assert sum(number < 3 for number in numbers(memory)) == expected


def test_the_share_follows_its_schedule() -> None:
    memory = filled(share=["linear", [0, 0.5], [100, 0.0]])
    found = []
    for frames in (0, 50, 100):
        memory.set_frames(frames)
        found.append(sum(number < 3 for number in numbers(memory)))
    assert found == [4, 2, 0]


def test_demonstrations_stay_when_the_policy_s_own_steps_are_overwritten() -> None:
    memory = filled()
    for number in range(4, 9):
        memory.extend(steps(number, 20))
    found = [number for _ in range(10) for number in numbers(memory)]
    assert {1, 2} <= set(found) and 3 not in found


def test_it_resumes_with_the_same_draws() -> None:
    memory, again = filled(), filled()
    memory.sample()
    again.load_state_dict(memory.state_dict())
    own = [[number for number in numbers(each) if number < 3] for each in (memory, again)]
    assert own[0] == own[1]


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"share=1"):
        DemonstrationShare("laps", share=1.0)
    for data in ([], None, [5]):
        with pytest.raises(ValueError, match="data="):
            DemonstrationShare(data)  # type: ignore[arg-type]
    for others, message in (({"prioritized": object()}, "have no priorities"), ({"held_out_share": 0.1}, "held out")):
        with pytest.raises(ValueError, match=f"demonstrations: .*{message}"):
            Replay(
                capacity=4,
                batch_size=2,
                uses_per_transition=1.0,
                gamma=0.9,
                demonstrations=DemonstrationShare("laps"),
                **others,  # type: ignore[arg-type]
            )


def test_batches_say_which_actions_the_driver_chose() -> None:
    memory = filled(share=0.5)
    for _ in range(10):
        batch = memory.sample()
        is_last = batch["next", "done"].flatten()  # of a recorded lap; there something else was played
        assert torch.equal(batch["is_demonstration"], (batch["observation"].flatten() < 3) & ~is_last)
