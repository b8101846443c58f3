"""Replay logs: exact after any number of appends, and only what was added is written."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage
from torchrl.data.replay_buffers.scheduler import LinearScheduler

from tests.data.counting_steps import (
    assert_equal_rows,
    assert_equal_samples,
    assert_goes_on_equally,
    build,
    learn,
    steps,
)
from tm_torchrl.data import ReplayLog, TensorDictPrioritizedReplayBuffer, make_replay_buffer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("storage", ["memory", "memmap", "frames"])
def test_goes_on_bit_for_bit(tmp_path: Path, storage: str, prioritized: bool) -> None:
    """After every append: 34 of 50 rows, full, wrapped around up to three times; and the one restored appends too."""
    settings = {"storage": storage, "prioritized": prioritized, "race": True}
    whole, log = build(**settings), ReplayLog(tmp_path / "replay", segment_rows=8)
    for start in range(0, 95, 19):
        whole.extend(steps(19, start=start))
        learn(whole)
        log.append(whole, facts={"frames": start}, in_background=start % 2 == 0)
        log.wait()
        again, its_log = build(**settings), ReplayLog(tmp_path / "replay", segment_rows=8)
        assert its_log.restore(again) == len(whole)
        assert its_log.facts() == {"frames": start}
        if storage == "frames":
            assert again.storage.num_frames == whole.storage.num_frames
        if start % 2:  # the restored one takes over, its log too
            whole, log = again, its_log
    again = build(**settings)
    ReplayLog(tmp_path / "replay").restore(again)
    assert_goes_on_equally(whole, again, start=95)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("storage", ["memory", "frames"])
def test_any_sequence_of_what_can_happen(tmp_path: Path, storage: str, seed: int) -> None:
    rng = random.Random(seed)
    settings = {"storage": storage, "capacity": rng.randint(9, 60)}
    segment_rows, start = rng.randint(1, 30), 0
    buffer, log = build(**settings), ReplayLog(tmp_path, segment_rows=segment_rows)
    for _ in range(30):
        event = rng.choice(["extend"] * 4 + ["learn", "append", "append", "background", "restart", "empty"])
        if event == "extend":
            num = rng.choice([1, 2, 5, 11, 40])
            buffer.extend(steps(num, start=start))
            start += num
        elif event == "learn" and len(buffer):
            learn(buffer)
        elif event == "empty" and rng.random() < 0.3:
            buffer.empty()
        elif event in ("append", "background", "restart"):
            log.append(buffer, in_background=event == "background")
            log.wait()
            again, its_log = build(**settings), ReplayLog(tmp_path, segment_rows=segment_rows)
            assert its_log.restore(again) == len(buffer)
            if len(buffer):
                assert_equal_rows(buffer, again)
            if event == "restart":
                buffer, log = again, its_log
    log.append(buffer)
    again = build(**settings)
    log.restore(again)
    for either in (buffer, again):
        either.extend(steps(9, start=start))
    assert_equal_samples(buffer, again)


@pytest.mark.parametrize("storage", ["memory", "frames"])
def test_only_what_was_added_is_written(tmp_path: Path, storage: str) -> None:
    """Rows of 3 steps: 20 steps of 2 lanes make 2 * (20 - 2) = 36, and 10 more 20."""
    buffer, log = build(storage=storage, capacity=50), ReplayLog(tmp_path, segment_rows=16)
    buffer.extend(steps(20))
    assert log.append(buffer)["rows"] == 36
    assert names(tmp_path) == [
        "manifest.json",
        *(f"segment_{number:09d}.rows" for number in (1, 2, 3)),  # rows 0-15, 16-31, 32-35
        "state_000000001.pt",
    ]
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.rows")}
    buffer.extend(steps(10, start=20))
    # 56 rows written, 6 to 55 are left: the first segment keeps 6 to 15. The third has 4 rows, which is no less than
    # a quarter of 16, so it stays; 36 to 51 and 52 to 55 are new.
    assert log.append(buffer)["rows"] == 20
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.rows")}
    assert sorted(after) == [f"segment_{number:09d}.rows" for number in (1, 2, 3, 4, 5)]
    assert before.items() <= after.items()
    buffer.extend(steps(5, start=30))
    log.append(buffer)  # 66 rows, 16 to 65 are left: the first segment is not needed any more
    assert sorted(path.name for path in tmp_path.glob("*.rows")) == [
        f"segment_{number:09d}.rows" for number in (2, 3, 4, 5, 6)
    ]
    again = build(storage=storage, capacity=50)
    ReplayLog(tmp_path).restore(again)
    assert_goes_on_equally(buffer, again, start=35)


def test_appends_of_a_few_rows_leave_few_files(tmp_path: Path) -> None:
    buffer, log = build(capacity=60), ReplayLog(tmp_path, segment_rows=40)
    num_rows = 0
    for start in range(0, 62, 2):
        buffer.extend(steps(2, start=start))
        num_rows += log.append(buffer)["rows"]
        # Whole segments have 12 rows; 60 rows touch at most 6 of them.
        assert len(list(tmp_path.glob("*.rows"))) <= 6
    # 30 appends have 4 rows each (the first step waits for its window). A tail of 4 or 8 rows, less than a quarter of
    # 40, is written again with what follows: 4, 8 and 12 rows in three appends.
    assert num_rows == 10 * (4 + 8 + 12)
    again = build(capacity=60)
    ReplayLog(tmp_path).restore(again)
    assert_goes_on_equally(buffer, again, start=62)


def test_nothing_new_writes_no_rows(tmp_path: Path) -> None:
    buffer, log = build(), ReplayLog(tmp_path)
    assert log.append(buffer)["rows"] == 0  # empty
    ReplayLog(tmp_path).restore(build())
    buffer.extend(steps(10))
    assert log.append(buffer)["rows"] == 16
    learn(buffer)
    assert log.append(buffer)["rows"] == 0
    again = build()
    ReplayLog(tmp_path).restore(again)  # the priorities and the generator as they were after learning
    assert_goes_on_equally(buffer, again, start=10)


@pytest.mark.parametrize("num", [0, 10, 60])
def test_another_buffer_is_written_completely(tmp_path: Path, num: int) -> None:
    log = ReplayLog(tmp_path)
    first, second = build(), build()
    first.extend(steps(12))
    log.append(first)
    if num:
        second.extend(steps(num, start=100))
    assert log.append(second)["rows"] == len(second)
    again = build()
    assert log.restore(again) == len(second)


def test_a_buffer_emptied_and_filled_again_is_written_completely(tmp_path: Path) -> None:
    buffer, log = build(), ReplayLog(tmp_path, segment_rows=8)
    buffer.extend(steps(12))
    log.append(buffer)
    buffer.empty()
    buffer.extend(steps(20, start=500))  # more rows than there were: the counters alone look like an addition
    assert log.append(buffer)["rows"] == len(buffer) == 40
    again = build()
    ReplayLog(tmp_path).restore(again)
    assert torch.equal(again[:]["observation"], buffer[:]["observation"])


def test_deleted_segments_are_written_again(tmp_path: Path) -> None:
    buffer, log = build(), ReplayLog(tmp_path, segment_rows=8)
    buffer.extend(steps(12))
    log.append(buffer)
    sorted(tmp_path.glob("*.rows"))[0].unlink()
    buffer.extend(steps(2, start=12))
    assert log.append(buffer)["rows"] == 24
    assert ReplayLog(tmp_path).restore(build()) == 24


def test_prefetched_batches_are_kept(tmp_path: Path) -> None:
    whole, again, other = (
        TensorDictPrioritizedReplayBuffer(
            alpha=0.6,
            beta=0.4,
            storage=LazyTensorStorage(50),
            batch_size=batch_size,
            prefetch=1,
            generator=torch.Generator().manual_seed(0),
        )
        for batch_size in (8, 8, 3)
    )
    whole.extend(steps(20).flatten(0, 1))
    whole.sample()
    log = ReplayLog(tmp_path)
    log.append(whole)
    log.restore(again)
    assert_equal_samples(whole, again)
    log.restore(other)
    assert [len(other.sample()) for _ in range(3)] == [3, 3, 3]


def test_a_scheduled_beta_is_restored(tmp_path: Path) -> None:
    whole, again = build(), build()
    whole.extend(steps(10))
    LinearScheduler(whole.sampler, param_name="beta", final_value=1.0, num_steps=3).step()
    ReplayLog(tmp_path).append(whole)
    ReplayLog(tmp_path).restore(again)
    assert again.sampler.beta == whole.sampler.beta == pytest.approx(0.6)


def test_frames_are_kept_once(tmp_path: Path) -> None:
    """Two lanes of 20 steps have 2 * 21 frames or fewer; each of 3 segments repeats those at its seams."""
    buffer, log = build(storage="frames", capacity=100), ReplayLog(tmp_path, segment_rows=12)
    buffer.extend(steps(20))
    log.append(buffer)
    num_frames = [entry["frames"] for entry in json.loads((tmp_path / "manifest.json").read_text())["segments"]]
    assert len(num_frames) == 3 and buffer.storage.num_frames <= sum(num_frames) <= buffer.storage.num_frames + 2 * 6
    again = build(storage="frames", capacity=100)
    log.restore(again)
    assert again.storage.num_frames == buffer.storage.num_frames


def test_types_of_all_kinds(tmp_path: Path) -> None:
    rows = {
        "bfloat": torch.arange(6).to(torch.bfloat16),
        "half": torch.arange(12.0).view(6, 2).to(torch.float16),
        "flag": torch.arange(6) % 2 == 0,
        "byte": torch.arange(6).to(torch.uint8).view(6, 1, 1, 1),
        "none": torch.zeros(6, 0),
        "complex": torch.arange(6) * 1j,
    }
    one, two = (make_replay_buffer(capacity=4, batch_size=2) for _ in range(2))
    one.extend(TensorDict(rows, [6])[:3])
    one.extend(TensorDict({**rows, "nested": {"deep": torch.ones(6)}}, [6]).exclude("nested")[3:])
    ReplayLog(tmp_path).append(one)
    ReplayLog(tmp_path).restore(two)
    for key in rows:
        assert one[:][key].dtype == two[:][key].dtype and torch.equal(one[:][key], two[:][key])


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "segment_000000007.rows").write_bytes(b"left over")
    log, buffer = ReplayLog(tmp_path), build()
    buffer.extend(steps(12))
    log.append(buffer)
    assert names(tmp_path) == ["manifest.json", "notes.txt", "segment_000000008.rows", "state_000000008.pt"]
