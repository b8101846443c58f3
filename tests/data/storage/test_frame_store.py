"""The frame store: every image right and kept once, no slot lost."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from tests.data.episodes import image_of, make_lanes, to_batch
from tm_torchrl.data import FrameStorage, NStep, RowStorage

SIZE = 4  # pixels along an image's edge


def check(buffer: TensorDictReplayBuffer, *, is_shared_by_all: bool = True) -> None:
    """Images belong to the vectors stored beside them, and each different frame is kept once."""
    storage = buffer.storage
    stored = buffer[:]
    check_images(stored)
    uses = storage._slots.uses
    assert int(uses.sum()) == 2 * len(stored)
    assert int((uses > 0).sum()) == storage.num_frames <= 2 * storage.max_size
    if is_shared_by_all:
        numbers = torch.cat([stored["observation"], stored["next", "observation"]])[:, 0]
        assert storage.num_frames == len(numbers.unique())


def check_images(transitions: TensorDict) -> None:
    for part in (transitions, transitions["next"]):
        assert torch.equal(part["pixels"], image_of(part["observation"][:, 0], SIZE))


def extend_in_parts(buffer: TensorDictReplayBuffer, lanes: list, lengths: list[int]):
    start = 0
    for length in lengths:
        yield buffer.extend(to_batch([lane[start : start + length] for lane in lanes], image_size=SIZE))
        start += length


def make_buffer(capacity: int, *, n: int = 3, **arguments) -> TensorDictReplayBuffer:
    buffer = TensorDictReplayBuffer(storage=FrameStorage(capacity, **arguments), batch_size=5)
    buffer.append_transform(NStep(n, gamma=0.5, frame_ids=True, cut_at_exploration=True))
    return buffer


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_lanes=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    n=st.integers(1, 4),
    capacity=st.integers(1, 30),
    ends=st.sampled_from((0.0, 0.2, 1.0)),
)
def test_every_image_is_right_and_kept_once(
    seed: int, num_lanes: int, lengths: list[int], n: int, capacity: int, ends: float
) -> None:
    lanes = make_lanes(seed, num_lanes=num_lanes, num_steps=sum(lengths), end_share=ends)
    buffer = make_buffer(capacity, n=n)
    num_seen = 0
    for length, _ in zip(lengths, extend_in_parts(buffer, lanes, lengths), strict=True):
        num_seen += length
        expected = min(capacity, max(num_seen - n + 1, 0) * num_lanes)
        assert len(buffer) == expected
        if expected:
            check(buffer)
            check_images(buffer.sample())


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=9), capacity=st.integers(1, 9)
)
def test_one_step_data_without_ids(seed: int, lengths: list[int], capacity: int) -> None:
    """Rows that follow each other share; at the seam of two batches a frame may be there twice."""
    lanes = make_lanes(seed, num_lanes=2, num_steps=sum(lengths))
    buffer = TensorDictReplayBuffer(storage=FrameStorage(capacity), batch_size=5)
    start = 0
    for length in lengths:
        batch = to_batch([lane[start : start + length] for lane in lanes], image_size=SIZE)
        buffer.extend(batch.flatten(0, 1))
        start += length
        check(buffer, is_shared_by_all=len(lengths) == 1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), turns=st.lists(st.integers(0, 2), max_size=30), capacity=st.integers(1, 12))
def test_writers_that_overwrite_each_other(seed: int, turns: list[int], capacity: int) -> None:
    """Frames that a writer wrote may be overwritten by others before its next turn."""
    lanes = make_lanes(seed, num_lanes=3, num_steps=2 * len(turns))
    writers = [NStep(2, gamma=0.5, frame_ids=True) for _ in lanes]
    buffer = TensorDictReplayBuffer(storage=FrameStorage(capacity), batch_size=5)
    start = [0, 0, 0]
    for turn in turns:
        part = lanes[turn][start[turn] : start[turn] + 2]
        start[turn] += 2
        rows = writers[turn].transitions(to_batch([part], image_size=SIZE))
        if len(rows):
            buffer.extend(rows)
            check(buffer, is_shared_by_all=False)


def test_one_frame_per_step_and_one_per_end() -> None:
    """100 steps of one lane with an end at steps 39 and 99: 100 + 2 frames."""
    [lane] = make_lanes(0, num_lanes=1, num_steps=102, end_share=0.0)
    for k, step in enumerate(lane):
        step.end = int(k in (39, 99))
        step.before += 1000 * (k > 39) + 1000 * (k > 99)
        step.after += 1000 * (k > 39) + 1000 * (k > 99)
    buffer = make_buffer(200)
    list(extend_in_parts(buffer, [lane], [51, 51]))
    assert len(buffer) == 100
    check(buffer)
    assert buffer.storage.num_frames == 102


@pytest.mark.parametrize("frame_keys", [None, ("pixels",), ("observation",)])
def test_samples_are_those_of_a_plain_storage(frame_keys) -> None:
    lanes = make_lanes(1, num_lanes=2, num_steps=20)
    buffer = make_buffer(30, frame_keys=frame_keys)
    list(extend_in_parts(buffer, lanes, [7, 13]))
    check(buffer)
    plain = TensorDictReplayBuffer(storage=LazyTensorStorage(30), batch_size=5)
    plain.append_transform(NStep(3, gamma=0.5, cut_at_exploration=True))
    list(extend_in_parts(plain, lanes, [7, 13]))
    assert bool((plain[:].exclude("index") == buffer[:]).all())


@pytest.mark.parametrize("index", [3, -1, slice(2, 5), [1, 4], torch.tensor([0, 0, 7]), range(2)])
def test_any_index_reads_as_from_a_plain_storage(index) -> None:
    lanes = make_lanes(2, num_lanes=2, num_steps=8)
    plain, ours = LazyTensorStorage(20), FrameStorage(20)
    rows = to_batch(lanes, image_size=SIZE).flatten(0, 1)
    for storage in (plain, ours):
        storage.set(range(16), rows.clone())
    assert plain[index].shape == ours[index].shape
    assert bool((plain[index] == ours[index]).all())


def test_add_one_and_write_at_an_index() -> None:
    rows = to_batch(make_lanes(3, num_lanes=1, num_steps=6), image_size=SIZE)[0]
    buffer = TensorDictReplayBuffer(storage=FrameStorage(4), batch_size=2)
    for row in rows:
        buffer.add(row)
    check(buffer, is_shared_by_all=False)
    buffer[1:3] = rows[:2]
    check(buffer, is_shared_by_all=False)
    buffer[torch.tensor([True, False, False, True])] = rows[2:4]
    check(buffer, is_shared_by_all=False)
    assert buffer[3]["observation"][0] == rows[3]["observation"][0]
    assert repr(buffer.storage).startswith("FrameStorage(max_size=4, len=4, num_frames=")
    buffer.empty()
    assert buffer.storage.num_frames == len(buffer) == 0
    buffer.extend(rows)
    check(buffer)


@pytest.mark.parametrize("way", ["state_dict", "dumps"])
def test_save_and_load(way: str, tmp_path) -> None:
    lanes = make_lanes(5, num_lanes=2, num_steps=50)
    buffer = make_buffer(24)
    parts = extend_in_parts(buffer, lanes, [5, 20, 5])
    for _ in range(3):
        next(parts)
    loaded = make_buffer(24)
    if way == "dumps":
        buffer.dumps(tmp_path / "dump")
        loaded.loads(tmp_path / "dump")
    else:
        loaded.load_state_dict(buffer.state_dict())
    assert bool((loaded[:] == buffer[:]).all())
    assert loaded.storage.num_frames == buffer.storage.num_frames
    for start in (30, 35, 40, 45):
        batch = to_batch([lane[start : start + 5] for lane in lanes], image_size=SIZE)
        buffer.extend(batch)
        loaded.extend(batch)
        assert bool((loaded[:] == buffer[:]).all())
        check(loaded, is_shared_by_all=start == 45)  # frames known by the ids of another writer may be there twice


def test_ids_that_a_reloaded_writer_gives_again_are_other_frames() -> None:
    """After loading an older state the same writer gets other frames, which must not be taken for earlier ones."""
    first, second = (make_lanes(seed, num_lanes=1, num_steps=12, end_share=0.0) for seed in (6, 7))
    for step in second[0]:
        step.before, step.after = step.before + 5000, step.after + 5000
    buffer = make_buffer(30)
    parts = extend_in_parts(buffer, first, [6, 6])
    next(parts)
    saved = buffer._transform.state_dict()
    next(parts)
    buffer._transform.load_state_dict(saved)
    list(extend_in_parts(buffer, second, [12]))
    check_images(buffer[:])


@pytest.mark.gpu
def test_frames_on_a_gpu() -> None:
    lanes = make_lanes(8, num_lanes=2, num_steps=30)
    ours, plain = make_buffer(20, device="cuda"), make_buffer(20)
    list(extend_in_parts(ours, lanes, [10, 20]))
    list(extend_in_parts(plain, lanes, [10, 20]))
    assert ours.sample()["next", "pixels"].is_cuda
    assert bool((ours[:].cpu() == plain[:]).all())


def write_parts(buffer: TensorDictReplayBuffer, seed: int, offset: int) -> None:
    """What one writer does: 40 batches of its own lanes through its own NStep into the shared buffer."""
    lanes = make_lanes(seed, num_lanes=2, num_steps=160)
    for step in (step for lane in lanes for step in lane):
        step.before, step.after = step.before + offset, step.after + offset
    n_step = NStep(3, gamma=0.5, frame_ids=True)
    for start in range(0, 160, 4):
        rows = n_step.transitions(to_batch([lane[start : start + 4] for lane in lanes], image_size=SIZE))
        if len(rows):
            buffer.extend(rows)


def test_threads_write_while_another_samples() -> None:
    buffer = TensorDictReplayBuffer(storage=FrameStorage(50), batch_size=16)
    writers = [threading.Thread(target=write_parts, args=(buffer, i, 10**5 * i)) for i in range(3)]
    write_parts(buffer, 9, 10**6)
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        check_images(buffer.sample())
    check(buffer)


@pytest.mark.parametrize("storage", [FrameStorage, RowStorage])
def test_batches_of_lanes_become_single_transitions(storage: type) -> None:
    """Ordered by lane, then by time; a collector that writes into a buffer hands over such batches."""
    buffer = TensorDictReplayBuffer(storage=storage(20), batch_size=5)
    buffer.append_transform(NStep(1, gamma=0.5, frame_ids=storage is FrameStorage))
    batch = to_batch(make_lanes(3, num_lanes=2, num_steps=8, end_share=0.0), image_size=SIZE)
    buffer.extend(batch)
    assert len(buffer) == 16
    check_images(buffer[:])
    assert torch.equal(buffer[:]["observation"], batch["observation"].flatten(0, 1))
    if storage is FrameStorage:
        assert buffer.storage.num_frames == 2 * 9


def test_errors_say_what_to_do() -> None:
    rows = to_batch(make_lanes(0, num_lanes=1, num_steps=6), image_size=SIZE)
    with pytest.raises(ValueError, match="max_size=0"):
        FrameStorage(0)
    with pytest.raises(ValueError, match="frame_keys='pixels'"):
        FrameStorage(3, frame_keys="pixels")
    with pytest.raises(ValueError, match=r"\[\('next', 'pixels'\)\] missing.*frame_keys"):
        FrameStorage(9, frame_keys=("pixels",)).set(range(6), rows[0].exclude(("next", "pixels")))
    with pytest.raises(ValueError, match=r"frame_ids=True"):
        FrameStorage(9).set(range(4), NStep(3, gamma=0.5).transitions(rows))
    with pytest.raises(ValueError, match=r"batch size \[1, 6\]; must be one dimension.*NStep"):
        TensorDictReplayBuffer(storage=FrameStorage(9), batch_size=5).extend(rows)
    storage = FrameStorage(9)
    storage.set(range(6), rows[0])
    with pytest.raises(ValueError, match=r"differ.*'action'"):
        storage.set(range(6), rows[0].exclude("action"))
    with pytest.raises(ValueError, match=r"\(1, 8, 8\).*must be \(1, 4, 4\)"):
        storage.set(range(6), to_batch(make_lanes(0, num_lanes=1, num_steps=6), image_size=8)[0])
    with pytest.raises(ValueError, match="max_size=5: too small for the 6 transitions"):
        FrameStorage(5).load_state_dict(storage.state_dict())
