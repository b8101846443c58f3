"""The n-step writer against transitions counted one by one, and its failures."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs.transforms import MultiStepTransform

from tests.data.episodes import CONTINUES, TERMINATED, TRUNCATED, Step, make_lanes, n_step_by_hand, to_batch
from tm_torchrl.data import NStep

GAMMA = 0.5


def cut_into_batches(lanes: list[list[Step]], lengths: list[int]) -> list[list[list[Step]]]:
    batches, start = [], 0
    for length in lengths:
        batches.append([lane[start : start + length] for lane in lanes])
        start += length
    return batches


def check(found: TensorDict, lanes: list[list[Step]], *, n: int, cut: bool, seams: set[int]) -> None:
    """Every transition of the lanes, in any order of lanes, once."""
    expected = [transition for lane in lanes for transition in n_step_by_hand(lane, n, GAMMA, cut, seams)]
    assert len(found) == len(expected)
    if not expected:
        return
    found = found[found["observation"][:, 0].argsort()]
    expected.sort(key=lambda transition: transition.before)

    def column(name: str) -> torch.Tensor:
        return torch.tensor([getattr(transition, name) for transition in expected])

    assert found["observation"][:, 0].tolist() == column("before").tolist()
    assert found["next", "observation"][:, 1].tolist() == (-column("after")).tolist()
    assert found["action"].tolist() == column("action").tolist()
    assert found["is_greedy"].tolist() == column("is_greedy").tolist()
    assert found["step_rewards"].tolist() == column("sums").tolist()
    assert found["next", "reward"].tolist() == column("sums")[:, -1:].tolist()
    assert found["steps_to_next_obs"].tolist() == column("num_used").unsqueeze(-1).tolist()
    assert found["num_steps"].tolist() == found["steps_to_next_obs"].tolist()
    assert found["steps_to_finish"].tolist() == column("steps_to_finish").unsqueeze(-1).tolist()
    assert found["step_discounts"].tolist() == [[GAMMA ** (j + 1) for j in range(n)]] * len(expected)
    end = column("end").unsqueeze(-1)
    assert found["next", "done"].tolist() == (end > 0).tolist()
    assert found["next", "terminated"].tolist() == (end == TERMINATED).tolist()
    assert found["next", "truncated"].tolist() == (end == TRUNCATED).tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_lanes=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    n=st.integers(1, 4),
    cut=st.booleans(),
    ends=st.sampled_from((0.0, 0.3, 1.0)),
    is_restarted=st.booleans(),
)
def test_equals_transitions_counted_one_by_one(
    seed: int, num_lanes: int, lengths: list[int], n: int, cut: bool, ends: float, is_restarted: bool
) -> None:
    lanes = make_lanes(seed, num_lanes=num_lanes, num_steps=sum(lengths), end_share=ends)
    seams: set[int] = set()
    batches = cut_into_batches(lanes, lengths)
    middle = len(lengths) // 2
    if is_restarted and middle:
        seams = {sum(lengths[:middle]) - 1}
        for lane in lanes:
            for step in lane[sum(lengths[:middle]) :]:
                step.trajectory += 10**6
                step.before += 10**5
                step.after += 10**5
    n_step = NStep(n, gamma=GAMMA, cut_at_exploration=cut, frame_ids=True)
    total = torch.cat([n_step.transitions(to_batch(batch, ids=is_restarted)) for batch in batches])
    check(total, lanes, n=n, cut=cut, seams=seams)
    check_frame_ids(total)


def check_frame_ids(found: TensorDict) -> None:
    """Equal ids where, and only where, the observation is the same."""
    ids = torch.cat([found["frame_id"], found["next", "frame_id"]]).tolist()
    numbers = torch.cat([found["observation"], found["next", "observation"]])[:, 0].tolist()
    assert len(set(ids)) == len(set(numbers)) == len(set(zip(ids, numbers, strict=True)))


def test_terminal_flag_where_torchrl_bootstraps_through_the_end() -> None:
    """Five steps, the last one terminates: with n = 3 the transitions of steps 2, 3 and 4 all end at the terminal."""
    lane = [Step(i, i + 1, 1.0, TERMINATED if i == 4 else CONTINUES, True) for i in range(5)]
    tail = [Step(10 + i, 11 + i, 1.0, CONTINUES, True) for i in range(3)]
    batch = to_batch([lane + tail])

    theirs = MultiStepTransform(n_steps=3, gamma=GAMMA).inv(batch.clone())
    assert theirs["next", "observation"][0, :, 0].tolist() == [3.0, 4.0, 5.0, 5.0, 5.0]
    assert theirs["next", "terminated"].flatten().tolist() == [False, False, False, False, True]  # the bug

    ours = NStep(3, gamma=GAMMA).transitions(batch)[:5]
    assert ours["next", "observation"][:, 0].tolist() == [3.0, 4.0, 5.0, 5.0, 5.0]
    assert ours["next", "terminated"].flatten().tolist() == [False, False, True, True, True]
    assert ours["next", "reward"].flatten().tolist() == [1.75, 1.75, 1.75, 1.5, 1.0]
    assert ours["steps_to_next_obs"].flatten().tolist() == [3, 3, 3, 2, 1]


def test_only_what_is_named_is_stored() -> None:
    batch = to_batch(make_lanes(0, num_lanes=2, num_steps=4), ids=True)
    stored = NStep(2, gamma=GAMMA, extra_keys=[("collector", "traj_ids")]).transitions(batch)
    assert {str(key) for key in stored.keys(True, True)} == {
        "observation",
        "action",
        "is_greedy",
        "('collector', 'traj_ids')",
        "('next', 'observation')",
        "('next', 'reward')",
        "('next', 'done')",
        "('next', 'terminated')",
        "('next', 'truncated')",
        "steps_to_next_obs",
        "num_steps",
        "steps_to_finish",
        "step_rewards",
        "step_discounts",
    }


def test_extra_keys_are_kept_at_the_ends_that_have_them() -> None:
    """Of the first step, and under "next" of the last used one: step 3 of lane 1 ends its episode."""
    lane = [Step(10 * k, 10 * k + 10, 1.0, TERMINATED if k == 2 else CONTINUES, True) for k in range(6)]
    batch = to_batch([lane], ids=True)
    batch["is_init"] = torch.tensor([[True, False, False, True, False, False]]).unsqueeze(-1)
    for part in (batch, batch["next"]):
        part["potential"] = part["observation"][..., :1] / 5
        part["hidden"] = part["observation"][..., :1].expand(1, 6, 3) + 0.5
    keys = ["is_init", "hidden", ("collector", "traj_ids")]
    stored = NStep(2, gamma=GAMMA, extra_keys=keys, end_key="end").transitions(batch)
    assert stored["potential"].flatten().tolist() == [0, 2, 4, 6, 8]
    assert stored["next", "potential"].flatten().tolist() == [4, 6, 6, 10, 12]
    assert stored["hidden"][:, 0].tolist() == [0.5, 10.5, 20.5, 30.5, 40.5]
    assert stored["next", "hidden"][:, 2].tolist() == [20.5, 30.5, 30.5, 50.5, 60.5]
    assert stored["is_init"].flatten().tolist() == [True, False, False, True, False]
    assert ("next", "is_init") not in stored.keys(True)
    assert stored["next", "done"].flatten().tolist() == [False, True, True, False, False]
    assert stored["end"].flatten().tolist() == [False, False, True, False, False]  # once for each episode


def test_ends_of_sequences() -> None:
    """Each lane's part of a batch is an end if there are several lanes; a gap always is."""
    lanes = make_lanes(0, num_lanes=2, num_steps=6, end_share=0.0)
    two = NStep(1, gamma=GAMMA, end_key="end")
    found = torch.cat([two.transitions(to_batch(batch)) for batch in cut_into_batches(lanes, [4, 2])])
    assert found["end"].flatten().nonzero().flatten().tolist() == [3, 7, 9, 11]
    one = NStep(2, gamma=GAMMA, end_key="end")
    for step in lanes[0][4:]:
        step.trajectory += 1
    found = torch.cat([one.transitions(to_batch(batch, ids=True)) for batch in cut_into_batches(lanes[:1], [4, 2])])
    assert found["end"].flatten().nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("leading", [(), (2, 2)])
def test_other_batch_shapes(leading: tuple[int, ...]) -> None:
    lanes = make_lanes(4, num_lanes=4 if leading else 1, num_steps=6)
    batch = to_batch(lanes)
    batch = batch.reshape(2, 2, 6) if leading else batch[0]
    check(NStep(2, gamma=GAMMA).transitions(batch), lanes, n=2, cut=False, seams=set())


@pytest.mark.parametrize("way", ["state_dict", "dumps"])
def test_goes_on_bit_for_bit_after_loading(tmp_path: Path, way: str) -> None:
    lanes = make_lanes(5, num_lanes=3, num_steps=12)
    first, second = cut_into_batches(lanes, [7, 5])

    def make() -> TensorDictReplayBuffer:
        buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(50), batch_size=4)
        return buffer.append_transform(NStep(3, gamma=GAMMA))

    buffer, loaded = make(), make()
    buffer.extend(to_batch(first))
    if way == "dumps":
        buffer.dumps(tmp_path / "dump")
        loaded.loads(tmp_path / "dump")
    else:
        loaded.load_state_dict(copy.deepcopy(buffer.state_dict()))
    for each in (buffer, loaded):
        each.extend(to_batch(second))
    assert bool((loaded[:] == buffer[:]).all())
    check(loaded[:], lanes, n=3, cut=False, seams=set())


def test_a_state_of_an_earlier_version_loads() -> None:
    n_step, loaded = NStep(3, gamma=GAMMA), NStep(3, gamma=GAMMA)
    batch = to_batch(make_lanes(6, num_lanes=2, num_steps=4))
    n_step.transitions(batch)
    loaded.set_extra_state({**n_step.get_extra_state(), "is_restarted": False})
    assert bool((loaded.transitions(batch) == n_step.transitions(batch)).all())


def test_two_writers_of_a_process_never_share_frame_ids() -> None:
    batch = to_batch(make_lanes(7, num_lanes=2, num_steps=3))
    writer = NStep(1, gamma=GAMMA, frame_ids=True)
    writers = [writer, copy.deepcopy(writer), NStep(1, gamma=GAMMA, frame_ids=True)]
    ids = [id_ for each in writers for id_ in each.transitions(batch)["frame_id"].tolist()]
    assert len(set(ids)) == 3 * 6


def test_errors_say_what_to_do() -> None:
    batch = to_batch(make_lanes(8, num_lanes=2, num_steps=3))
    with pytest.raises(ValueError, match="num_steps=0"):
        NStep(0, gamma=GAMMA)
    with pytest.raises(ValueError, match=r"gamma=1\.5"):
        NStep(3, gamma=1.5)
    with pytest.raises(ValueError, match=r"\['is_greedy'\] missing"):
        NStep(2, gamma=GAMMA, cut_at_exploration=True).transitions(batch.exclude("is_greedy"))
    with pytest.raises(ValueError, match=r"\[\('next', 'reward'\)\] missing"):
        NStep(2, gamma=GAMMA).transitions(batch.exclude(("next", "reward")))
    with pytest.raises(ValueError, match="extra_keys"):
        NStep(2, gamma=GAMMA).transitions(batch.exclude("observation"))
    n_step = NStep(2, gamma=GAMMA)
    n_step.transitions(batch)
    with pytest.raises(ValueError, match="has 3 lanes, earlier batches had 2"):
        n_step.transitions(to_batch(make_lanes(8, num_lanes=3, num_steps=3)))
    with pytest.raises(ValueError, match="its keys are"):
        n_step.transitions(batch.exclude("is_greedy"))
    with pytest.raises(ValueError, match=r"its shape is \[\]"):
        NStep(2, gamma=GAMMA).transitions(batch[0, 0])
