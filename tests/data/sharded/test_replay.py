"""Shards in threads of this process, which the tests end, hold up and look into."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict

from tests.data.episodes import image_of, make_lanes, to_batch
from tm_torchrl.data import NStep, Priorities, PrioritizedSampler, ShardedReplay, make_replay_buffer
from tm_torchrl.data.sharded import shards as on_shards
from tm_torchrl.data.sharded.replay import ROWS, Rows, split_by_shard
from tm_torchrl.data.sharded.saving import make_log
from tm_torchrl.data.sharded.shard import MARK, ReplayShard
from tm_torchrl.data.sharded.shards import ReplayLostError, ShardLostError
from tm_torchrl.data.steps import n_step


class Here:
    """A shard in a thread; it waits while ``may_go`` is not set, and answers no more once it is dead."""

    def __init__(self, shard: ReplayShard) -> None:
        self.shard, self.is_dead = shard, False
        self.may_go = threading.Event()
        self.may_go.set()
        self.calls: list[str] = []
        self.thread = ThreadPoolExecutor(1)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        self.calls.append(method)

        def work() -> Any:
            self.may_go.wait()
            if self.is_dead:
                raise ShardLostError("ended: its process was killed or crashed")
            named = {"priority": arguments[1]} if method == "write" else {}
            return getattr(self.shard, method)(*arguments[: 1 if named else None], **named)

        return self.thread.submit(work)

    def missing(self) -> str:
        return "there is room for none"

    def kill(self) -> None:
        self.is_dead = True
        self.may_go.set()
        self.thread.shutdown(wait=False)


class Opened:
    """A replay with its shards, those that were started later at the end."""

    def __init__(self, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "num_shards": 2,
            "capacity": 20,
            "batch_size": 8,
            "uses_per_transition": 8,
            "gamma": 0.9,
        }
        self.replay = ShardedReplay(**defaults | options)
        self.shards: list[Here] = []
        self.messages: list[str] = []
        self.replay.open(self.start, log=self.messages.append)

    def start(self) -> Here:
        self.shards.append(Here(self.replay.make_shard()))
        return self.shards[-1]

    def write(self, *values: float) -> None:
        steps = TensorDict({}, [1, len(values)])
        steps.set_non_tensor(ROWS, Rows(TensorDict({"x": torch.tensor(values)}, [len(values)]), len(values)))
        self.replay.extend(steps)


@pytest.fixture
def opened() -> Iterator[Any]:
    made: list[Opened] = []

    def make(**options: Any) -> Opened:
        made.append(Opened(**options))
        return made[-1]

    yield make
    for each in made:
        each.replay.close()


PRIORITIES = Priorities(alpha=1.0, beta=1.0)


def test_places_are_split_at_the_ends_of_the_shards() -> None:
    """Totals 4 and 8: 4.0 belongs to the second, as its 0.0; 12.0 can only come from rounding, and is the last's."""
    first, second = split_by_shard(torch.tensor([0.0, 3.5, 4.0, 12.0]), torch.tensor([4.0, 8.0]))
    assert first.tolist() == [0.0, 3.5] and second.tolist() == [0.0, 8.0]


def test_a_batch_is_that_of_one_buffer_with_all_transitions(opened: Any) -> None:
    """Items 0, 1 | 2, 3, 4 with priorities 1, 3 | 2, 2, 4: total 12, a third of it in the first shard."""
    here = opened(batch_size=1200, prioritized=PRIORITIES, seed=5)
    here.replay._turn = 1  # shard 0 is the next
    here.write(0, 1)
    here.write(2, 3, 4)
    priorities = torch.tensor([1.0, 3.0, 2.0, 2.0, 4.0])
    here.replay.shards.settled()
    for shard, mine in zip(here.shards, priorities.split([2, 3]), strict=True):
        shard.shard.update(torch.arange(len(mine)), mine)
    for shard in here.replay.shards.all:
        shard.pending = shard.handle.call("state")
    sampler = PrioritizedSampler(20, 1.0, 1.0)
    one = make_replay_buffer(capacity=20, batch_size=1200, sampler=sampler, seed=5)
    one.extend(TensorDict({"x": torch.arange(5.0)}, [5]))
    one.update_priority(torch.arange(5), priorities)
    batch, alone = here.replay.sample(), one.sample()
    assert batch["x"].sort().values.tolist() == alone["x"].sort().values.tolist()
    assert batch["priority_weight"].sort().values.tolist() == alone["priority_weight"].sort().values.tolist()
    assert (batch["shard"] == 0).float().mean() == pytest.approx(1 / 3, abs=0.04)
    is_last = batch["x"] == 4
    assert is_last.float().mean() == pytest.approx(1 / 3, abs=0.04)
    torch.testing.assert_close(batch["priority_weight"][is_last].unique(), torch.tensor([1 / 4]))


def test_without_priorities_every_transition_is_as_likely(opened: Any) -> None:
    here = opened(batch_size=1000)
    here.write(*range(6))
    here.write(*range(6, 10))
    batch = here.replay.sample()
    assert torch.bincount(batch["x"].long()).tolist() == pytest.approx([100] * 10, abs=35)
    assert "priority_weight" not in batch


def test_priorities_go_to_their_transitions_and_new_ones_get_the_highest(opened: Any) -> None:
    here = opened(prioritized=PRIORITIES, batch_size=50)
    here.write(*range(4))
    here.write(*range(4, 8))
    batch = here.replay.sample()
    here.replay.seen(batch.set("td_error", 1.0 + batch["x"].unsqueeze(-1)))
    here.write(8)
    here.replay.shards.settled()
    found = {}
    for each in here.shards:
        num = len(each.shard.buffer)
        found |= dict(
            zip(
                each.shard.buffer.storage.get(torch.arange(num))["x"].tolist(),
                each.shard.sampler._sum_tree[torch.arange(num)].tolist(),
                strict=True,
            )
        )
    assert found == pytest.approx({x: 1.0 + x for x in range(8)} | {8: 8.0})


def test_updates_pay_for_the_uses_of_what_was_written(opened: Any) -> None:
    """3 transitions are too few; with 4 more, 4 * 8 uses are 4 batches of 8. Each shard is written in turn."""
    here = opened(learning_starts=5)
    here.write(*range(3))
    assert not list(here.replay.batches())
    here.write(*range(4))
    here.replay.shards.settled()
    assert len(list(here.replay.batches())) == 4
    assert [len(each.shard.buffer) for each in here.shards] == [4, 3]
    assert here.replay.metrics() == {"replay_size": 7.0, "replay_shards": 2.0, "replay_lost": 0.0}


def test_images_of_two_workers_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker numbers its frames in its own process; from the same number, one would find the other's images."""
    monkeypatch.setattr(n_step, "_num_streams", 0)
    shard = ReplayShard(100, storage="frames")
    lanes = make_lanes(3, num_lanes=4, num_steps=12)
    writers = {first: NStep(3, gamma=0.5, frame_ids=True) for first in (0, 2)}
    for start in (0, 6):
        for first, writer in writers.items():
            n_step.number_streams_from(first)
            steps = to_batch([lane[start : start + 6] for lane in lanes[first : first + 2]], image_size=4)
            shard.write(writer.transitions(steps), priority=1.0)
    rows = shard.draw(torch.arange(float(len(shard.buffer))))
    before, after = (part["observation"][:, 0].long() for part in (rows, rows["next"]))
    assert torch.equal(before % 12, rows["action"]) and torch.equal(rows["pixels"], image_of(before, 4))
    assert ((after > before) & (after < before + 10)).all(), "numbers of the other worker's lanes are further away"


@pytest.mark.parametrize("way", ["dies", "hangs"])
def test_a_lost_shard_is_replaced_and_the_others_go_on(opened: Any, way: str) -> None:
    here = opened(prioritized=PRIORITIES, hang_timeout_s=0.2)
    here.write(*range(5))
    here.write(*range(5, 9))
    before = here.replay.sample()
    assert set((before["x"] < 5).tolist()) == {True, False}
    lost = here.shards[1]  # was written first
    former = here.replay._drawn_from
    lost.is_dead, _ = way == "dies", lost.may_go.clear() if way == "hangs" else None
    begin = time.monotonic()
    here.replay.seen(before.set("td_error", torch.ones(8)))
    batch = here.replay.sample()
    assert time.monotonic() - begin < 2.0
    assert (batch["x"] >= 5).all() and len(batch) == 8
    why = "its process was killed" if way == "dies" else "has not answered for 0.2 s"
    assert (
        len(here.messages) == 1 and "shard 1" in here.messages[0] and "its 5 transitions are lost" in here.messages[0]
    )
    assert why in here.messages[0]
    here.replay._drawn_from = former
    here.replay.seen(before.set("td_error", torch.full((8,), 7.0)))
    assert len(here.messages) == 1 and "update" not in here.shards[2].calls, (
        "indices of the lost shard are not those of the new one"
    )
    for _ in range(2):
        here.write(10)
    here.replay.shards.settled()
    assert [len(each.shard.buffer) for each in (here.shards[0], here.shards[2])] == [5, 1]
    assert here.replay.metrics()["replay_lost"] == 5.0


def test_a_shard_has_one_write_on_its_way(opened: Any) -> None:
    """The second write waits for the first; so the collector, which waits for the learner, does too."""
    here = opened(num_shards=1)
    here.replay.shards.started()
    here.shards[0].may_go.clear()
    here.write(0)
    threading.Timer(0.3, here.shards[0].may_go.set).start()
    begin = time.monotonic()
    here.write(1)
    assert time.monotonic() - begin > 0.2 and here.shards[0].calls.count("write") == 2


def test_a_batch_that_cannot_be_read_is_named_and_costs_no_shard(opened: Any) -> None:
    here = opened(num_shards=1)
    here.shards[0].shard.write = lambda rows, priority: on_shards.ShardState(problem="its node has ended")
    here.write(0)
    here.replay.shards.settled()
    assert "shard 0" in here.messages[0] and "its node has ended" in here.messages[0]
    assert len(here.shards) == 1


def test_shards_that_never_start_end_the_training(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_shards, "START_TIMEOUT_S", 0.2)
    monkeypatch.setattr(Here, "call", lambda self, method: Future())
    with pytest.raises(ReplayLostError, match="there is room for none"):
        opened(num_shards=1).write(0)


def test_too_many_losses_end_the_training(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_shards, "MAX_LOSSES", 1)
    here = opened()
    here.write(0)
    here.write(1)
    for each in here.shards:
        each.is_dead = True
    with pytest.raises(ReplayLostError, match="2 shards"):
        here.replay.sample()


def test_each_shard_saves_its_part_and_reads_it_again(opened: Any, tmp_path: Path) -> None:
    first, second = opened(prioritized=PRIORITIES, seed=1), opened(prioritized=PRIORITIES, seed=2)
    first.write(*range(4))
    first.write(*range(4, 9))
    batch = first.replay.sample()
    first.replay.seen(batch.set("td_error", batch["x"]))
    for name, part in first.replay.contents().items():
        make_log(tmp_path / name, part).append(part, facts={"frames": 9})
    second.replay.load_state_dict(first.replay.state_dict())
    rows = [make_log(tmp_path / name, part).restore(part) for name, part in second.replay.contents().items()]
    assert rows == [5, 4] and len(second.replay) == 9
    for name in ("x", "priority_weight"):
        assert torch.equal(first.replay.sample()[name], second.replay.sample()[name])


def test_a_shard_that_does_not_see_the_folder_says_so(opened: Any, tmp_path: Path) -> None:
    here = opened(num_shards=1)
    here.replay.shards.started(0)
    part = here.replay.contents()["shard_0"]
    log = make_log(tmp_path / "shard_0", part)
    log.append(part)
    here.shards[0].shard.save = lambda folder, mark, *rest: ReplayShard.save(
        here.shards[0].shard, str(Path(folder).parent), mark, *rest
    )
    assert not (tmp_path / MARK).exists()
    with pytest.raises(FileNotFoundError, match=r"shard 0.*does not share"):
        log.append(part)
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        make_log(tmp_path / "elsewhere", part).restore(part)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("num_shards", 0), ("capacity", 1), ("learning_starts", 21), ("storage", "disk"), ("hang_timeout_s", 0.0)),
        *(("resources", {"CPU": -1}), ("batch_size", 0)),
    ],
)
def test_wrong_settings_are_named(name: str, value: Any) -> None:
    options = {"num_shards": 2, "capacity": 20, "batch_size": 8, "uses_per_transition": 8, "gamma": 0.9}
    with pytest.raises(ValueError, match=f"^{name}="):
        ShardedReplay(**options | {name: value})
