"""Sequences: every step is learnt from once, returns and ends by hand, priorities, a saved state."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from tensordict import TensorDict

from tests.data.episodes import Step, make_lanes, n_step_by_hand, to_batch
from tm_torchrl.data import Priorities, Sequences
from tm_torchrl.data.steps.n_step import TRAJECTORY

GAMMA = 0.5


def steps_of(lanes: list[list[Step]], start: int, stop: int) -> TensorDict:
    """A batch whose state is the number of the observation, and 0 where an episode begins."""
    batch = to_batch([lane[start:stop] for lane in lanes], ids=True)
    batch["memory"] = batch["observation"][..., :1].clone()
    for i, lane in enumerate(lanes):
        for t in range(start, stop):
            if t == 0 or lane[t - 1].end:
                batch["memory"][i, t - start] = 0.0
    return batch


def memory(**options: Any) -> Sequences:
    given = {"capacity": 10_000, "batch_size": 4, "uses_per_transition": 1, "length": 4, "burn_in": 2, "gamma": GAMMA}
    return Sequences(**{**given, "stored_keys": ["observation"], "state_keys": ["memory"], **options})


def filled(lanes: list[list[Step]], *, batch_steps: int = 7, **options: Any) -> Sequences:
    made = memory(**options)
    for start in range(0, len(lanes[0]), batch_steps):
        made.extend(steps_of(lanes, start, min(start + batch_steps, len(lanes[0]))))
    return made


def all_rows(made: Sequences) -> TensorDict:
    return made._batch(made.buffer[torch.arange(len(made.buffer))].set("index", torch.arange(len(made.buffer))))


def line_of(lane: list[Step]) -> list[int]:
    """The numbers of a lane's observations, the last ones of episodes included."""
    return [number for step in lane for number in ([step.before, step.after] if step.end else [step.before])]


@pytest.mark.parametrize("batch_steps", [1, 3, 7, 50])
def test_rows_are_cut_from_the_line_of_observations(batch_steps: int) -> None:
    lanes = make_lanes(3, num_lanes=2, num_steps=50)
    rows = all_rows(filled(lanes, batch_steps=batch_steps, num_steps=2))
    found = {tuple(row) for row in rows["observation"][..., 0].int().tolist()}
    expected = set()
    for lane in lanes:
        line = line_of(lane)
        expected |= {tuple(line[i : i + 8]) for i in range(0, len(line) - 7, 4)}  # 2 + 4 + 2 records, 4 apart
    assert found == expected and len(rows) == len(expected)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("end_share", [0.0, 0.1, 0.5, 1.0])
def test_returns_and_ends_by_hand(end_share: float, num_steps: int, cut: bool) -> None:
    """Inside sequences, at terminal and truncated ends, and where a sequence ends."""
    longer = make_lanes(1, num_lanes=3, num_steps=63, end_share=end_share)
    lanes = [lane[:60] for lane in longer]
    by_hand = {t.before: t for lane in longer for t in n_step_by_hand(lane, num_steps, GAMMA, cut, set())}
    rows = all_rows(filled(lanes, num_steps=num_steps, cut_at_exploration=cut))
    learnt = []
    for row in rows:
        observations = row["observation"][:, 0].int().tolist()
        for i in row["learning_mask"].nonzero().flatten().tolist():
            learnt.append(observations[i])
            want = by_hand[observations[i]]
            used = int(row["steps_to_next_obs"][i])
            assert (used, int(row["action"][i])) == (want.num_used, want.action)
            assert float(row["next", "reward"][i]) == want.sums[-1]
            assert bool(row["next", "terminated"][i]) == (want.end == 1)
            assert bool(row["next", "done"][i]) == (want.end > 0)
            assert observations[i + used] == want.after, "the record from which the step bootstraps"
    assert len(learnt) == len(set(learnt)), "no step twice"
    begun = [lane[i].before for lane in lanes for i in range(2, 40)]  # after the first burn-in, before the last row
    assert set(begun) - {number for lane in lanes for number in line_of(lane)[:2]} <= set(learnt)


def test_masks_and_beginnings_by_hand() -> None:
    """Observations 0 1 2 | 3 4 | 5 ...; 2 and 4 are the last ones of their episodes, which are not learnt from."""
    lane = [Step(0, 1, 1, 0, True, 7), Step(1, 2, 1, 1, True, 7), Step(3, 4, 1, 2, True, 8)]
    lane += [Step(i, i + 1, 1, 0, True, 9) for i in range(5, 9)]
    row = all_rows(filled([lane], burn_in=1, length=4, num_steps=2))[0]
    assert row["observation"][:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert row["learning_mask"].tolist() == [False, True, False, True, False, False, False]
    assert row["is_init"].tolist() == [True, False, False, True, False, True, False]
    assert row["steps_to_next_obs"].flatten().tolist()[:4:2] and row["steps_to_next_obs"][[1, 3]].tolist() == [[1], [1]]
    assert row["next", "terminated"][[1, 3]].tolist() == [[True], [False]]
    assert row["next", "done"][[1, 3]].tolist() == [[True], [True]]


def test_the_stored_state_is_that_of_the_first_record() -> None:
    lanes = make_lanes(5, num_lanes=2, num_steps=40, end_share=0.1)
    for row in all_rows(filled(lanes)):
        if not bool(row["is_init"][0]) and int(row["observation"][0, 0]) in {s.before for lane in lanes for s in lane}:
            assert float(row["memory"][0, 0]) == float(row["observation"][0, 0])
        elif bool(row["is_init"][0]):
            assert float(row["memory"][0, 0]) == 0.0


def test_a_gap_ends_an_episode_without_terminating_it() -> None:
    """A worker was restarted: the trajectory changes although nothing was done."""
    first = [Step(i, i + 1, 1, 0, True, 1) for i in range(6)]
    second = [Step(i, i + 1, 1, 0, True, 2) for i in range(100, 120)]
    inside = memory(num_steps=2)
    inside.extend(steps_of([first + second], 0, 26))
    line = all_rows(inside)["observation"][..., 0].int().flatten().tolist()
    assert 6 in line, "the observation after the last step before the gap"
    assert not any({5, 100} <= set(itertools.pairwise(row)) for row in [line])
    row = all_rows(inside)[0]
    place = row["observation"][:, 0].tolist().index(5)
    assert (int(row["steps_to_next_obs"][place]), bool(row["next", "terminated"][place])) == (1, False)
    between = memory(num_steps=2)
    between.extend(steps_of([first], 0, 6))
    between.extend(steps_of([second], 0, 20))
    seen = set(all_rows(between)["observation"][..., 0].int().flatten().tolist())
    assert seen == set(range(100, 120)), "pending steps before a gap between batches are given up"
    assert bool(all_rows(between)["is_init"][0, 0])


def test_priorities_by_hand() -> None:
    """0.9 of the largest error of learnt steps and 0.1 of their mean: 0.9 * 4 + 0.1 * (1 + 4 + 1) / 3 = 3.8."""
    lane = [Step(i, i + 1, 1, 0, True, 0) for i in range(20)]
    made = filled([lane], prioritized=Priorities(alpha=1.0, beta=1.0), burn_in=1, length=3, batch_size=2)
    batch = made.sample()
    assert batch.shape == (2, 5) and batch["priority_weight"].shape == (2, 5)
    error = torch.tensor([[9.0, 1.0, 4.0, 1.0, 9.0]]).expand(2, 5).unsqueeze(-1)
    made.seen(batch.set("td_error", error))
    tree = made.buffer.sampler.state_dict()["tree"]
    assert tree[batch["index"][:, 0]].tolist() == pytest.approx([3.8, 3.8])


def test_updates_are_paid_for_by_steps() -> None:
    """20 steps make 4 sequences of 4 steps: 16 steps, each used twice, are 4 updates of 2 sequences."""
    lane = [Step(i, i + 1, 1, 0, True, 0) for i in range(20)]
    made = filled([lane], uses_per_transition=2, batch_size=2)
    assert (len(made.buffer), len(made)) == (4, 16)
    assert len(list(made.batches())) == 4 and list(made.batches()) == []
    waits = filled([lane], learning_starts=17)
    assert list(waits.batches()) == []


def test_lanes_of_different_workers_do_not_mix() -> None:
    lanes = make_lanes(2, num_lanes=4, num_steps=40)
    made, whole = memory(), filled(lanes)
    for start in range(0, 40, 5):
        for first in (2, 0):
            batch = steps_of(lanes[first : first + 2], start, start + 5)
            batch["collector", "lane"] = torch.arange(first, first + 2).unsqueeze(1).expand(2, 5)
            made.extend(batch)
    key = lambda rows: sorted(map(tuple, rows["observation"][..., 0].int().tolist()))  # noqa: E731
    assert key(all_rows(made)) == key(all_rows(whole))


def test_a_saved_memory_goes_on() -> None:
    lanes = make_lanes(4, num_lanes=2, num_steps=45)
    whole = filled(lanes, batch_steps=15, num_steps=3)
    first, second = memory(num_steps=3), memory(num_steps=3)
    first.extend(steps_of(lanes, 0, 15))
    second.load_state_dict(first.state_dict())
    second.buffer.extend(first.buffer[:])
    for start in (15, 30):
        second.extend(steps_of(lanes, start, start + 15))
    assert second.budget.num_uses_left == whole.budget.num_uses_left
    for name, value in all_rows(whole).items(True, True):
        assert torch.equal(all_rows(second)[name], value), name
    assert TRAJECTORY not in whole.buffer[:].keys(True)


def test_states_for_diagnostics() -> None:
    made = filled(make_lanes(4, num_lanes=2, num_steps=45))
    assert made.first_states(1_000) is None
    states = made.first_states(3)
    assert states is not None and states["observation"].shape == (3, 2) and states["memory"].shape == (3, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length", 0),
        ("burn_in", -1),
        ("num_steps", 0),
        ("batch_size", 0),
        ("capacity", 3),
        ("capacity", 8.5),
        ("learning_starts", 20_000),
        ("learning_starts", -1),
        ("storage", "frames"),
        ("max_share", 1.5),
    ],
)
def test_wrong_arguments_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}="):
        memory(**{name: value})
