"""Replay logs with damaged files, with failing disks, and killed at any moment."""

from __future__ import annotations

import errno
import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ListStorage, TensorDictReplayBuffer

from tests.data.counting_steps import (
    assert_equal_rows,
    assert_equal_samples,
    assert_goes_on_equally,
    build,
    learn,
    steps,
)
from tests.victim import kill_after
from tm_torchrl.data import DamagedFileError, ReplayLog, SavingError
from tm_torchrl.data.saving import atomic_files


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damage_is_named(tmp_path: Path) -> None:
    buffer, log = build(), ReplayLog(tmp_path)
    buffer.extend(steps(12))
    log.append(buffer)
    segment, state, manifest = (next(tmp_path.glob(name)) for name in ("*.rows", "*.pt", "manifest.json"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-5])
    again = build()
    with pytest.raises(DamagedFileError, match=rf"\.rows has {len(whole) - 5} bytes instead .* 20 rows: "):
        ReplayLog(tmp_path).restore(again)
    assert len(again) == 0  # nothing was touched
    segment.unlink()
    with pytest.raises(DamagedFileError, match=r"segment_000000001\.rows is missing"):
        ReplayLog(tmp_path).restore(build())
    segment.write_bytes(whole)
    damage(state)
    with pytest.raises(DamagedFileError, match=r"state_000000001\.pt does not match.* priorities and generators: "):
        ReplayLog(tmp_path).restore(build())
    damage(manifest)
    with pytest.raises(DamagedFileError, match=r"manifest\.json"):
        ReplayLog(tmp_path).restore(build())
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        ReplayLog(tmp_path / "elsewhere").restore(build())
    assert ReplayLog(tmp_path / "elsewhere").facts() is None


def test_other_settings_are_refused(tmp_path: Path) -> None:
    buffer, log = build(), ReplayLog(tmp_path)
    buffer.extend(steps(12))
    log.append(buffer)
    with pytest.raises(ValueError, match="capacity=60: the saved replay has capacity=50"):
        log.restore(build(capacity=60))
    with pytest.raises(ValueError, match="segment_rows=0"):
        ReplayLog(tmp_path, segment_rows=0)
    with pytest.raises(ValueError, match="ListStorage"):
        log.append(TensorDictReplayBuffer(storage=ListStorage(5)))
    odd = TensorDictReplayBuffer(storage=LazyTensorStorage(9), batch_size=2)
    odd.extend(TensorDict({"x": torch.arange(4)}, [4]))
    odd.writer.write_at(torch.tensor([6]), TensorDict({"x": torch.arange(1)}, [1]))
    with pytest.raises(ValueError, match="write_at"):
        log.append(odd)


def test_bytes_anywhere_in_the_manifest_count(tmp_path: Path) -> None:
    buffer, log = build(), ReplayLog(tmp_path)
    buffer.extend(steps(3))
    log.append(buffer)
    manifest = tmp_path / "manifest.json"
    whole = manifest.read_bytes()
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 1
        manifest.write_bytes(changed)
        with pytest.raises(DamagedFileError, match=r"manifest\.json"):
            log.facts()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offset", "x"),
        ("rows", None),
        ("end", -3),
        ("settings", 5),
        ("layout", {"rows": []}),
        ("state", {"file": "../x", "bytes": 1, "crc32": 1}),
        ("segments", ["x"]),
        ("segments", [{"file": "segment_000000001.rows", "bytes": 1, "crc32": 1, "first": 0, "rows": 1}]),
    ],
)
def test_a_manifest_of_another_kind_is_named(tmp_path: Path, name: str, value: object) -> None:
    buffer, log = build(), ReplayLog(tmp_path)
    buffer.extend(steps(3))
    log.append(buffer)
    manifest = atomic_files.read_manifest(tmp_path / "manifest.json", version=1)
    atomic_files.write_manifest(tmp_path / "manifest.json", {**manifest, name: value})
    with pytest.raises(DamagedFileError, match=rf"manifest\.json: ({name}|frames|file)="):
        ReplayLog(tmp_path).restore(build())


def test_objects_that_need_pickle_are_not_written(tmp_path: Path) -> None:
    buffer = build()
    buffer.extend(steps(10))
    buffer.sampler._beta = Path("x")
    with pytest.raises(TypeError, match=r"buffer.state_dict\(\)\['_sampler'\]\['beta'\] is a (Posix|Windows)Path"):
        ReplayLog(tmp_path).append(buffer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("code", "fail_at"), [(errno.EACCES, 0), *((errno.ENOSPC, number) for number in range(6))])
def test_a_full_disk_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fail_at: int
) -> None:
    """Whichever of the flushes fails (3 files, folder, manifest, folder), the run goes on and loses nothing."""
    buffer, log = build(), ReplayLog(tmp_path, segment_rows=16)
    buffer.extend(steps(12))
    log.append(buffer)
    copy = build()
    log.restore(copy)
    log.append(buffer)
    buffer.extend(steps(12, start=12))
    fsync, calls = atomic_files.os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > fail_at:
            raise OSError(code, "no more")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files.os, "fsync", full)
        advice = "free space" if code == errno.ENOSPC else "make the folder writable"
        with pytest.raises(SavingError, match=rf"the replay could not be written to .*no more.*; {advice}.*unchanged"):
            log.append(buffer)
    again = build()
    rows = ReplayLog(tmp_path).restore(again)
    assert rows == (20 if fail_at < 5 else 44)  # the last flush comes after the replacement
    if rows == 20:
        assert len(list(tmp_path.glob("*.rows"))) == 2 and not list(tmp_path.glob("*.partial"))
        assert_equal_samples(copy, again)
    buffer.extend(steps(3, start=24))
    assert log.append(buffer)["rows"] == 30  # 24 that failed and 6
    again = build()
    assert ReplayLog(tmp_path).restore(again) == 50
    assert_goes_on_equally(buffer, again, start=27)


def test_a_disk_that_fills_up_while_rows_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, log = build(), ReplayLog(tmp_path, segment_rows=16)
    buffer.extend(steps(20))

    def some(*arguments):
        yield b"1234"
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tm_torchrl.data.saving.segment.parts", some)
        with pytest.raises(SavingError, match="no space left on device"):
            log.append(buffer)
    assert list(tmp_path.iterdir()) == []
    assert log.append(buffer)["rows"] == 36


def test_in_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    buffer, log = build(), ReplayLog(tmp_path, segment_rows=16)
    buffer.extend(steps(12))
    fsync = atomic_files.os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(atomic_files.os, "fsync", lambda descriptor: (time.sleep(0.05), fsync(descriptor))[1])
        start = time.perf_counter()
        appended = log.append(buffer, in_background=True)
        assert not (tmp_path / "manifest.json").exists()  # three files, two folders, a manifest: 0.3 s
        buffer.extend(steps(12, start=12))  # rows that come meanwhile are no part of it
        log.wait()
        assert appended["seconds"] < 0.3 < time.perf_counter() - start
    assert ReplayLog(tmp_path).restore(build()) == appended["rows"] == 20

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no more")

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files.os, "fsync", full)
        log.append(buffer, in_background=True)
        with caplog.at_level(logging.WARNING), pytest.raises(SavingError, match="no more"):
            log.append(buffer, in_background=True)  # repeated in the foreground, where it fails again
        assert "failed and is repeated now" in caplog.text
    assert ReplayLog(tmp_path).restore(build()) == 20
    assert log.append(buffer)["rows"] == 24
    log.wait()
    again = build()
    ReplayLog(tmp_path).restore(again)
    assert_goes_on_equally(buffer, again, start=24)


class Gate:
    """Holds up every thread but the one that made it, until it is opened."""

    def __init__(self, function) -> None:
        self.function, self.owner, self.opened = function, threading.get_ident(), threading.Event()

    def __call__(self, *arguments):
        if threading.get_ident() != self.owner:
            assert self.opened.wait(20)
        return self.function(*arguments)


@pytest.mark.parametrize("storage", ["memory", "frames"])
def test_rows_that_come_while_a_thread_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str) -> None:
    """80 rows, 30 to 79 are left; 30 to 41, the oldest quarter, lie in the first of 16, which is written at once."""
    buffer, log = build(storage=storage), ReplayLog(tmp_path, segment_rows=16)
    buffer.extend(steps(42))
    expected = buffer.storage.get(slice(None)).clone()
    gate = Gate(atomic_files.write_file)
    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, "write_file", gate)
        log.append(buffer, in_background=True)
        assert [path.name for path in tmp_path.iterdir()] == ["segment_000000001.rows"]
        buffer.extend(steps(8, start=42))  # 96 rows: row 46 is the oldest, the second segment's first
        gate.opened.set()
        log.wait()
    again = build(storage=storage)
    assert ReplayLog(tmp_path).restore(again) == 50
    found = again.storage.get(slice(None))
    assert all(torch.equal(found[key], expected[key]) for key in expected.keys(True, True))
    assert log.append(buffer)["rows"] == 18  # 2 that make the last segment, less than a quarter, and 16


def test_rows_that_are_overwritten_before_a_thread_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    buffer, log = build(), ReplayLog(tmp_path, segment_rows=16)
    buffer.extend(steps(42))
    gate = Gate(atomic_files.write_file)
    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, "write_file", gate)
        log.append(buffer, in_background=True)
        buffer.extend(steps(9, start=42))  # 98 rows: row 46 is gone
        gate.opened.set()
        with caplog.at_level(logging.WARNING):
            assert log.append(buffer)["rows"] == 50
    assert "overwritten before the thread had written them" in caplog.text
    again = build()
    assert ReplayLog(tmp_path).restore(again) == 50
    assert_goes_on_equally(buffer, again, start=51)


WRITER = """
from tests.data.counting_steps import build, learn, steps
from tm_torchrl.data import ReplayLog
settings = dict(storage={storage!r}, capacity=400)
buffer, log = build(**settings), ReplayLog({folder!r}, segment_rows=64)
start = 0
if log.facts() is not None:
    log.restore(buffer)
    start = log.facts()["start"]
while True:
    buffer.extend(steps(20, start=start))
    start += 20
    learn(buffer)
    log.append(buffer, facts=dict(start=start), in_background=start % 40 == 0)
    log.wait()
    print(start, flush=True)
"""


OFTEN = [pytest.param(storage, 30, marks=pytest.mark.slow) for storage in ("memory", "memmap", "frames")]


@pytest.mark.parametrize(("storage", "num_kills"), [("frames", 3), *OFTEN])
def test_killed_at_random(tmp_path: Path, storage: str, num_kills: int) -> None:
    """What is found after each kill is the last append that was reported, or the one after it, and exact."""
    folder, rng = tmp_path / "replay", np.random.default_rng(num_kills)
    expected, at = build(storage=storage, capacity=400), 0
    for _ in range(num_kills):
        lines = kill_after(WRITER.format(folder=str(folder), storage=storage), rng.uniform(0.05, 0.4))
        reported = [int(line) for line in lines if line.isdigit()]  # torchrl logs there too
        found, log = build(storage=storage, capacity=400), ReplayLog(folder)
        saved = (log.facts() or {"start": 0})["start"]
        assert saved - (reported[-1] if reported else at) in (0, 20)
        while at < saved:
            expected.extend(steps(20, start=at))
            at += 20
            learn(expected)
        if saved:
            log.restore(found)
            assert_equal_rows(expected, found)
            assert torch.equal(
                torch.as_tensor(found.sampler._sum_tree[torch.arange(400)]),
                torch.as_tensor(expected.sampler._sum_tree[torch.arange(400)]),
            )
            assert torch.equal(found._rng.get_state(), expected._rng.get_state())
