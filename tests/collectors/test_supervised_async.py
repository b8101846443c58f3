"""Workers that collect independently: the order of batches, their lanes, failures and n-step sums."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict, TensorDictBase

from tests.collectors.test_supervised import RAY, pids, posix, wait_for_all
from tm_torchrl.collectors.supervised import SupervisedCollector
from tm_torchrl.data import NStep
from tm_torchrl.data.replay import Replay

Build = Callable[..., SupervisedCollector]
ASYNCHRONOUS = pytest.mark.parametrize("kind", ["multi_async", RAY])


def make_replay(storage: str = "memory") -> Replay:
    replay = Replay(
        capacity=10_000,
        learning_starts=1,
        batch_size=2,
        uses_per_transition=1,
        num_steps=3,
        gamma=1.0,
        storage=storage,
    )
    replay.n_step = NStep(3, gamma=1.0, frame_ids=storage == "frames", extra_keys=[("collector", "lane")])
    return replay


def worker_of(batch: TensorDictBase) -> int:
    return int(batch["collector", "lane"][0, 0]) // 2


@ASYNCHRONOUS
def test_each_worker_has_its_own_lanes_and_delays_nobody(kind: str, tmp_path: Path, build: Build) -> None:
    """While the file is there, worker 0 waits: all batches come from worker 1, and worker 0 continues later."""
    collector = build(kind=kind, workers=2, fails=tmp_path, hang_timeout_s=100.0)
    wait_for_all(collector)
    seen: dict[int, list[TensorDictBase]] = {0: [], 1: []}
    while min(len(batches) for batches in seen.values()) < 4:
        batch = next(collector)
        assert batch.shape == (2, 4)
        seen[worker_of(batch)].append(batch)
    for worker, batches in seen.items():
        line = torch.cat(batches, 1)
        assert line["collector", "lane"][:, 0].tolist() == [2 * worker, 2 * worker + 1]
        assert (line["collector", "traj_ids"] % 4 == line["collector", "lane"]).all(), "lane + 4 lanes * episodes"
        count, after = line["observation"].squeeze(-1), line["next", "observation"].squeeze(-1)
        goes_on = (count[:, 1:] == after[:, :-1]) | (after[:, :-1] == 10)
        assert goes_on.all(), "the batches of one worker follow each other"
        is_same = line["collector", "traj_ids"].diff(dim=1) == 0
        assert (is_same == (after[:, :-1] != 10)).all(), "a new number for each episode, and only then"
    (tmp_path / "wait").touch()
    workers = [worker_of(next(collector)) for _ in range(20)]
    assert workers.count(0) <= 2, "what was nearly finished"
    (tmp_path / "wait").unlink()
    begin = time.monotonic()
    while worker_of(next(collector)) != 0:
        assert time.monotonic() - begin < 60


@posix
@ASYNCHRONOUS
def test_a_killed_worker_restarts_while_the_other_continues(kind: str, build: Build) -> None:
    messages: list[str] = []
    collector = build(kind=kind, workers=2, log=messages.append)
    wait_for_all(collector)
    first, other = pids(collector)
    os.kill(first, signal.SIGKILL)
    meanwhile, highest = 0, -1
    while worker_of(batch := next(collector)) == 1 or not messages:
        meanwhile += bool(messages)
        if worker_of(batch) == 0:
            highest = int(batch["collector", "traj_ids"].max())
    assert "worker 0 ended" in messages[0] and messages[0].endswith("\nThis worker restarts.")
    assert meanwhile > 2, "a collector that waits for the restart has at most two finished batches"
    assert int(batch["collector", "traj_ids"].min()) > highest
    assert batch["observation"][:, 0].tolist() == [[0.0], [0.0]]
    assert pids(collector)[1] == other


def check_transitions(rows: TensorDictBase, *, num_lanes: int) -> None:
    """Episodes of ten steps, reward 1, n = 3: from count c to min(c + 3, 10), the reward is what lies between."""
    count, after = rows["observation"].flatten(), rows["next", "observation"].flatten()
    assert torch.equal(after, (count + 3).clamp(max=10))
    assert torch.equal(rows["next", "reward"].flatten(), after - count)
    assert torch.equal(rows["steps_to_next_obs"].flatten().float(), after - count)
    assert torch.equal(rows["next", "terminated"].flatten(), after == 10)
    for lane in range(num_lanes):
        line = count[rows["collector", "lane"].flatten() == lane]
        assert torch.equal(line, torch.arange(len(line)) % 10.0), "no step is missing or comes twice"


def test_n_step_sums_of_interleaved_workers_are_right(tmp_path: Path, build: Build) -> None:
    collector, replay = build(kind="multi_async", workers=2, fails=tmp_path, hang_timeout_s=100.0), make_replay()
    order: list[int] = []
    while order.count(0) < 8 or order.count(1) < 8:
        batch = next(collector)
        order.append(worker_of(batch))
        replay.extend(batch)
        if len(order) == 6:
            (tmp_path / "wait").touch()
        if len(order) == 12:
            (tmp_path / "wait").unlink()
    assert len(set(zip(order[::2], order[1::2], strict=False))) > 1, "not simply in turns"
    rows = replay.buffer[:]
    assert len(rows) == 2 * 4 * len(order) - 4 * 2  # all but the last two steps of four lanes
    check_transitions(rows, num_lanes=4)


def steps_of(lanes: range, first: int, num: int) -> TensorDict:
    """Steps ``first`` to ``first + num - 1`` of the counting environment."""
    count = (torch.arange(first, first + num) % 10.0).expand(len(lanes), num).unsqueeze(-1)
    episode = torch.arange(first, first + num) // 10
    lane = torch.tensor(list(lanes)).unsqueeze(1).expand(len(lanes), num)
    flags = {"done": count == 9, "terminated": count == 9}
    return TensorDict(
        {
            "observation": count,
            "action": torch.zeros(len(lanes), num, dtype=torch.int64),
            "next": {"observation": count + 1, "reward": torch.ones_like(count), **flags},
            "collector": {"lane": lane, "traj_ids": lane + 100 * episode},
        },
        batch_size=[len(lanes), num],
    )


@pytest.mark.parametrize(("saved_at", "storage"), [(None, "memory"), (3, "memory"), (None, "frames")])
def test_lanes_are_written_apart_in_any_order_and_across_a_save(saved_at: int | None, storage: str) -> None:
    """Worker 0 has lanes 0 and 1, worker 1 lanes 2 to 4; they come in the order 0, 0, 1, 0, 1, 1, in batches of 5."""
    replay, lanes, come = make_replay(storage), [range(2), range(2, 5)], [0, 0]
    for number, worker in enumerate([0, 0, 1, 0, 1, 1]):
        if number == saved_at:
            rows, state = replay.buffer[:].clone(), replay.state_dict()
            replay = make_replay()
            replay.buffer.extend(rows)
            replay.load_state_dict(state)
        replay.extend(steps_of(lanes[worker], 5 * come[worker], 5))
        come[worker] += 1
    rows = replay.buffer[:]
    assert len(rows) == 2 * (15 - 2) + 3 * (15 - 2)  # 15 steps of five lanes, of which the last two wait
    check_transitions(rows, num_lanes=5)
    if storage == "frames":
        assert replay.buffer.storage.num_frames == 5 * (13 + 1 + 3)


def test_lanes_that_are_grouped_anew_begin_anew() -> None:
    """Six steps of two lanes, then of the four lanes that take their place: what was pending is given up."""
    replay = make_replay()
    assert replay.extend(steps_of(range(2), 0, 6)) == 2 * 4
    assert replay.extend(steps_of(range(4), 0, 6)) == 4 * 4
    assert list(replay.writers) == [range(4)]


def test_the_discount_is_set_for_all_writers() -> None:
    replay = make_replay()
    replay.extend(steps_of(range(2), 0, 2))
    replay.set_gamma(0.5)
    replay.extend(steps_of(range(2), 2, 1))
    replay.extend(steps_of(range(2, 4), 0, 3))
    assert replay.buffer[:]["next", "reward"].flatten().tolist() == [1.75] * 4  # 1 + 1/2 + 1/4


@ASYNCHRONOUS
def test_its_state_waits_for_nobody_and_a_resumed_run_begins_new_episodes(
    kind: str, tmp_path: Path, build: Build
) -> None:
    first = build(kind=kind, workers=2, fails=tmp_path, hang_timeout_s=100.0)
    wait_for_all(first)
    (tmp_path / "wait").touch()
    before = [next(first) for _ in range(6)]
    begin = time.monotonic()
    state = first.state_dict()
    assert time.monotonic() - begin < 5.0, "worker 0 does not answer now"
    (tmp_path / "wait").unlink()
    assert (state["kind"], state["workers"], state["in_flight"]) == ("multi_async", None, None)
    messages: list[str] = []
    second = build(kind="multi_async", workers=2, log=messages.append)
    second.load_state_dict(state)
    assert "not repeatable bit for bit" in messages[0] and "new episodes begin" in messages[0]
    after = next(second)
    assert after["observation"][:, 0].tolist() == [[0.0], [0.0]]
    old = set(torch.cat([batch["collector", "traj_ids"] for batch in before]).flatten().tolist())
    assert not old & set(after["collector", "traj_ids"].flatten().tolist())
