"""States of collectors that something happened to: failures, other numbers of lanes, no batch yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tm_torchrl.collectors.supervised import SupervisedCollector, WorkerError

Build = Callable[..., SupervisedCollector]


def ids(collector: SupervisedCollector, batches: int = 1) -> set[int]:
    """Trajectories of the next batches."""
    return {number for _ in range(batches) for number in next(collector)["collector", "traj_ids"].flatten().tolist()}


def test_a_failure_in_the_background_does_not_spoil_the_saving(tmp_path: Path, build: Build) -> None:
    """The third batch, steps 9 to 12, is being driven when the state is asked for, and the engine explodes."""
    (tmp_path / "raise").touch()
    messages: list[str] = []
    collector = build(kind="multi_sync", overlap=True, fails=tmp_path, log=messages.append)
    before = ids(collector, 2)
    state = collector.state_dict()
    assert state["workers"] is None and state["in_flight"] is None
    after = next(collector)
    assert "the engine exploded" in messages[0]
    assert after["observation"][:, 0].tolist() == [[0.0], [0.0]]
    resumed = build(kind="single", log=messages.append)
    resumed.load_state_dict(state)
    assert "they could not be saved: new episodes begin" in messages[1]
    assert not before & ids(resumed)


@pytest.mark.parametrize("kind", ["multi_sync", "multi_async"])
def test_numbers_of_trajectories_are_saved_after_the_last_failure_too(kind: str, tmp_path: Path, build: Build) -> None:
    (tmp_path / "raise").touch()
    collector = build(kind=kind, fails=tmp_path, max_restarts=0)
    before = ids(collector, 2)
    with pytest.raises(WorkerError, match="workers failed 1 times"):
        next(collector)
    resumed = build(kind="single")
    resumed.load_state_dict(collector.state_dict())
    assert not before & ids(resumed)


def test_a_state_that_nothing_has_followed_yet_is_handed_on(build: Build) -> None:
    first = build(kind="single")
    before = ids(first, 3)
    second = build(kind="single")
    second.load_state_dict(first.state_dict())
    third = build(kind="single")
    third.load_state_dict(second.state_dict())
    expected, found = next(first), next(third)
    assert torch.equal(found["observation"], expected["observation"]), "goes on within the episode"
    assert torch.equal(found["collector", "traj_ids"], expected["collector", "traj_ids"])
    assert before & set(found["collector", "traj_ids"].flatten().tolist())


@pytest.mark.parametrize("num_envs", [1, 3])
def test_another_number_of_lanes_begins_new_episodes_with_new_numbers(num_envs: int, build: Build) -> None:
    """Two lanes in their third episodes have given numbers up to 1 + 2 * 2 = 5."""
    first = build(kind="single", num_envs=2)
    before = ids(first, 6)
    assert before == {0, 1, 2, 3, 4, 5}
    messages: list[str] = []
    second = build(kind="single", num_envs=num_envs, log=messages.append)
    second.load_state_dict(first.state_dict())
    batch = next(second)
    assert messages == [f"the saved run had 2 lanes, this one has {num_envs}: new episodes begin"]
    assert batch["observation"][:, 0].tolist() == [[0.0]] * num_envs
    assert batch["collector", "traj_ids"].min() > 5
