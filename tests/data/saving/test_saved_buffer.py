"""Saved buffers: exact, whole or refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torchrl.data.replay_buffers.scheduler import LinearScheduler

from tm_torchrl.data import (
    DamagedBufferError,
    MiniRace,
    NStep,
    load_buffer,
    make_replay_buffer,
    save_buffer,
)
from tm_torchrl.data.saving import saved_buffer as module
from tm_torchrl.data.saving import whole_files


def steps(num: int, *, start: int = 0, lanes: int = 2) -> TensorDict:
    """Steps of lanes whose observations count; the next batch of the same lanes starts where this one ends."""
    count = torch.arange(start, start + num, dtype=torch.float32).expand(lanes, num).unsqueeze(-1)
    done = torch.zeros(lanes, num, 1, dtype=torch.bool)
    following = {"observation": count + 1, "reward": torch.ones(lanes, num, 1), "done": done, "terminated": done}
    return TensorDict(
        {"observation": count, "action": torch.zeros(lanes, num).long(), "next": {**following, "truncated": done}},
        [lanes, num],
    )


def build(**options) -> object:
    settings = {"capacity": 50, "batch_size": 8, "prioritized": True, "n_step": NStep(3, gamma=0.99), "seed": 0}
    return make_replay_buffer(**{**settings, **options})


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("storage", ["memory", "memmap", "frames"])
def test_goes_on_bit_for_bit(tmp_path: Path, prioritized: bool, storage: str) -> None:
    def make() -> object:
        n_step = NStep(3, gamma=0.99, frame_ids=storage == "frames")
        race = MiniRace(seed=3, clock_index=0)
        return build(prioritized=prioritized, storage=storage, n_step=n_step, mini_race=race)

    whole = make()
    for start in (0, 11, 22):  # wraps around
        whole.extend(steps(11, start=start))
    if prioritized:
        whole.update_tensordict_priority(whole.sample().set("td_error", torch.rand(8, 1)))
    save_buffer(whole, tmp_path / "replay")
    again = make()
    load_buffer(again, tmp_path / "replay")
    for buffer in (whole, again):
        buffer.extend(steps(7, start=33))
    for _ in range(3):
        first, second = whole.sample(), again.sample()
        assert set(first.keys(True, True)) == set(second.keys(True, True))
        assert all(torch.equal(first[key], second[key]) for key in first.keys(True, True))


def saved(tmp_path: Path) -> Path:
    buffer = build()
    buffer.extend(steps(10))
    return save_buffer(buffer, tmp_path / "replay")


def test_cut_short_changed_and_missing_files_are_named(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    content = (folder / "buffer.pt").read_bytes()
    (folder / "buffer.pt").write_bytes(content[:-100])
    with pytest.raises(
        DamagedBufferError, match=rf"buffer.pt has {len(content) - 100} bytes instead of {len(content)}"
    ):
        load_buffer(build(), folder)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    (folder / "buffer.pt").write_bytes(flipped)
    with pytest.raises(DamagedBufferError, match=r"buffer\.pt does not match its checksum"):
        load_buffer(build(), folder)
    (folder / "buffer.pt").unlink()
    with pytest.raises(DamagedBufferError, match=r"buffer\.pt is missing"):
        load_buffer(build(), folder)
    (folder / "manifest.json").write_text('{"version": 1, "sett')
    with pytest.raises(DamagedBufferError, match=r"manifest\.json is missing or cut short"):
        load_buffer(build(), folder)
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        load_buffer(build(), tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"capacity": 60}, "capacity: 50 there, 60 here"),
        ({"alpha": 0.7}, "alpha: 0.6 there, 0.7 here"),
        ({"prioritized": False}, "sampler: 'PrioritizedSampler' there, 'RandomSampler' here"),
        ({"storage": "memmap"}, "storage: 'LazyTensorStorage' there, 'LazyMemmapStorage' here"),
        ({"n_step": None}, "transforms: ['NStep'] there, [] here"),
        ({"n_step": NStep(5, gamma=0.99)}, "NStep.num_steps: 3 there, 5 here"),
        ({"eps": 0.5}, "eps: 1e-08 there, 0.5 here"),
        ({"priority_key": ("a", "b")}, "priority_key: 'td_error' there, ['a', 'b'] here"),
        ({"shared": True}, "sync: True there, False here"),
        ({"prefetch": 2}, "prefetch: 0 there, 2 here"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, options: dict, difference: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"differs in {difference}")):
        load_buffer(build(**options), saved(tmp_path))


def test_other_entries_are_refused(tmp_path: Path) -> None:
    other = build()
    wide = steps(10)
    wide["observation"] = wide["observation"].expand(2, 10, 3).clone()
    wide["next", "observation"] = wide["next", "observation"].expand(2, 10, 3).clone()
    other.extend(wide)
    with pytest.raises(
        ValueError, match=r"entry 'next.observation': torch.float32 \[1\] there, torch.float32 \[3\] here"
    ):
        load_buffer(other, saved(tmp_path))


def test_a_replacement_cut_off_anywhere_leaves_a_loadable_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = build()
    newer.extend(steps(20))

    class Killed(BaseException):
        pass

    def killing(function, calls: list, kill_at: int):
        def call(*arguments, **options):
            calls.append(function.__name__)
            if len(calls) > kill_at:
                raise Killed
            return function(*arguments, **options)

        return call

    lengths, calls = [], []
    while not lengths or len(calls) >= len(lengths):  # until nothing is left to be cut off
        calls.clear()
        kill_at, folder = len(lengths), saved(tmp_path / str(len(lengths)))
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            for owner, name in ((whole_files.os, "fsync"), (Path, "rename"), (module.shutil, "rmtree")):
                patch.setattr(owner, name, killing(getattr(owner, name), calls, kill_at))
            save_buffer(newer, folder)
        found = build()
        load_buffer(found, folder)
        lengths.append(len(found))
        save_buffer(newer, folder)  # what the killed one left behind is in nobody's way
        load_buffer(found, folder)
        assert len(found) == 36
        assert {path.name for path in folder.parent.iterdir()} == {"replay"}
    # The old one has 2 * (10 - 2) transitions, the new one 2 * (20 - 2).
    assert set(lengths) == {16, 36} and lengths == sorted(lengths)
    assert calls.count("rename") == 2
    assert calls.count("fsync") == (4 if os.name == "posix" else 2)  # two files, and the names in two folders


@pytest.mark.parametrize("kill_at", [0, 1, 2])
def test_a_replacement_cut_off_twice_leaves_a_loadable_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    """The first was cut off between the two renames: the old one stands beside the name."""
    folder = saved(tmp_path)
    folder.rename(tmp_path / "replay.previous")
    load_buffer(build(), folder)
    rename, num_calls = Path.rename, 0

    def killing(*arguments):
        nonlocal num_calls
        num_calls += 1
        if num_calls > kill_at:
            raise KeyboardInterrupt
        return rename(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killing)
        with pytest.raises(KeyboardInterrupt):
            save_buffer(build(), folder)
    found = build()
    load_buffer(found, folder)
    assert len(found) == 16


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("words")
    with pytest.raises(FileExistsError, match="thesis"):
        save_buffer(build(), tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "words"


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    torch.save({"evil": Path("x")}, folder / "buffer.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    path = folder / "buffer.pt"
    manifest["files"]["buffer.pt"] = {"bytes": path.stat().st_size, "crc32": whole_files.checksum(path)}
    del manifest["crc32"]
    manifest["crc32"] = whole_files.checksum_of(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_buffer(build(), folder)


def test_what_would_have_to_be_pickled_is_not_written(tmp_path: Path) -> None:
    buffer = build()
    buffer.extend(steps(10))
    buffer.sampler._eps = Path("x")
    with pytest.raises(TypeError, match=r"buffer.state_dict\(\)\['_sampler'\]\['eps'\] is a (Posix|Windows)Path"):
        save_buffer(buffer, tmp_path / "replay")
    assert list(tmp_path.iterdir()) == []


def test_every_byte_of_the_manifest_counts(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    whole, reader = (folder / "manifest.json").read_bytes(), build()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (folder / "manifest.json").write_bytes(damaged)
        with pytest.raises(DamagedBufferError, match=r"manifest\.json"):
            load_buffer(reader, folder)


@pytest.mark.parametrize("storage", ["memory", "memmap", "frames"])
@pytest.mark.parametrize("num", [0, 10])
def test_a_buffer_that_is_not_full_takes_the_room_it_needs(tmp_path: Path, storage: str, num: int) -> None:
    def make() -> object:
        return build(capacity=20_000, storage=storage, n_step=NStep(3, gamma=0.99, frame_ids=storage == "frames"))

    whole, again = make(), make()
    if num:
        whole.extend(steps(num))
    folder = save_buffer(whole, tmp_path / "replay")
    assert (folder / "buffer.pt").stat().st_size < 200_000  # the tree's 20,000 numbers of 8 bytes, and 16 transitions
    load_buffer(again, folder)
    assert len(again) == len(whole)
    for buffer in (whole, again):
        for start in (num, num + 11):
            buffer.extend(steps(11, start=start))
    first, second = whole.sample(), again.sample()
    assert all(torch.equal(first[key], second[key]) for key in first.keys(True, True))
    assert len(again) == len(whole) == 2 * (num + 22 - 2)


@pytest.mark.parametrize("prioritized", [False, True])
def test_batches_sampled_ahead_are_kept(tmp_path: Path, prioritized: bool) -> None:
    whole, again = (build(prioritized=prioritized, prefetch=1) for _ in range(2))
    whole.extend(steps(20))
    whole.sample()
    load_buffer(again, save_buffer(whole, tmp_path / "replay"))
    for _ in range(4):
        first, second = whole.sample(), again.sample()
        assert set(first.keys(True, True)) == set(second.keys(True, True))
        assert all(torch.equal(first[key], second[key]) for key in first.keys(True, True))


def test_the_reader_chooses_the_batch_size(tmp_path: Path) -> None:
    whole, again = build(prefetch=1), build(prefetch=1, batch_size=3)
    whole.extend(steps(20))
    whole.sample()
    load_buffer(again, save_buffer(whole, tmp_path / "replay"))
    assert [len(again.sample()) for _ in range(3)] == [3, 3, 3]


def test_a_scheduled_beta_is_restored(tmp_path: Path) -> None:
    whole, again = build(), build()
    whole.extend(steps(10))
    LinearScheduler(whole, param_name="beta", final_value=1.0, num_steps=3).step()
    load_buffer(again, save_buffer(whole, tmp_path / "replay"))
    assert again.beta == whole.beta == pytest.approx(0.6)
