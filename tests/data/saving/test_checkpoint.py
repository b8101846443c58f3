"""Checkpoints: complete or absent, the last few kept, damaged ones skipped."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from tests.victim import kill_after
from tm_torchrl.data.saving import atomic_files
from tm_torchrl.data.saving import checkpoint as module
from tm_torchrl.data.saving.checkpoint import CheckpointError, Checkpoints


def state(number: int) -> dict:
    return {"weight": torch.full((100,), float(number)), "steps": [number, None, {"lr": 0.1}], 3: ("x", True)}


def save(checkpoints: Checkpoints, *frames: int) -> None:
    for number in frames:
        checkpoints.save(state(number), frames=number, facts={"seconds": number / 2})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_there_and_back(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimiser = torch.optim.RAdam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    saved = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "rows": TensorDict({"x": torch.arange(6).view(3, 2)}, [3])[:2],
        "part": torch.arange(1000)[:10],
        "number": np.float64(0.5),
    }
    path = Checkpoints(tmp_path / "a" / "b").save(saved, frames=12345, facts={"laps": [1, 2.5], "track": "oval"})
    assert path == tmp_path / "a" / "b" / "frames_000000012345"
    assert names(path) == ["manifest.json", "state.pt"]
    found, manifest = Checkpoints(tmp_path / "a" / "b").load()
    assert manifest["frames"] == 12345 and manifest["facts"] == {"laps": [1, 2.5], "track": "oval"}
    assert manifest["bytes"] == (path / "state.pt").stat().st_size and 0 < manifest["seconds"] < 60
    assert manifest["path"] == str(path)
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    other.load_state_dict(found["network"])
    assert all(torch.equal(one, two) for one, two in zip(network.parameters(), other.parameters(), strict=True))
    its_optimiser = torch.optim.RAdam(other.parameters())
    its_optimiser.load_state_dict(found["optimiser"])
    for model, steps in ((network, optimiser), (other, its_optimiser)):
        model.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        steps.step()
    assert all(torch.equal(one, two) for one, two in zip(network.parameters(), other.parameters(), strict=True))
    assert (found["rows"] == saved["rows"]).all() and found["number"] == 0.5
    assert torch.equal(found["part"], torch.arange(10))


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "frames_best").mkdir()
    save(checkpoints, 10, 20, 30)
    checkpoints.save_best(state(7), facts={"lap_s": 12.5})
    save(checkpoints, 40)
    kept = ["frames_000000000030", "frames_000000000040"]
    assert names(tmp_path) == ["best", *kept, "frames_best", "notes.txt"]
    assert [found["frames"] for found in checkpoints.list()] == [40, 30]
    assert checkpoints.load()[0]["steps"][0] == 40
    assert checkpoints.load(30)[0]["steps"][0] == 30
    with pytest.raises(CheckpointError, match=r"looked for frames_000000000020 .*for frames: 40, 30"):
        checkpoints.load(20)
    best, manifest = checkpoints.load_best()
    assert best["steps"][0] == 7 and manifest["facts"] == {"lap_s": 12.5} and manifest["frames"] is None


def test_the_newest_is_the_one_saved_last(tmp_path: Path) -> None:
    """A run that was taken back to an earlier checkpoint goes on from what it has saved since."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, 100, 200)
    save(Checkpoints(tmp_path, keep=2), 150)
    assert Checkpoints(tmp_path).load()[1]["frames"] == 150
    assert names(tmp_path) == ["frames_000000000150", "frames_000000000200"]


def test_one_of_the_same_frames_is_replaced(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 100, 200)
    checkpoints.save(state(5), frames=100)
    assert names(tmp_path) == ["frames_000000000100", "frames_000000000200"]
    assert checkpoints.load()[0]["steps"][0] == 5
    assert checkpoints.load(200)[0]["steps"][0] == 200
    checkpoints.save_best(state(1))
    checkpoints.save_best(state(2))
    assert checkpoints.load_best()[0]["steps"][0] == 2


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: damage(path / "state.pt"), r"state\.pt does not match its checksum"),
        (lambda path: damage(path / "manifest.json"), r"manifest\.json (does not match|is missing or cut short)"),
        (lambda path: (path / "state.pt").write_bytes(b"cut"), r"state\.pt has 3 bytes instead of \d+: it was cut"),
        (lambda path: (path / "state.pt").unlink(), r"state\.pt is missing"),
        (lambda path: (path / "manifest.json").unlink(), r"manifest\.json is missing"),
    ],
)
def test_a_damaged_one_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture, harm, reason: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    save(checkpoints, 10, 20, 30)
    harm(tmp_path / "frames_000000000030")
    with caplog.at_level(logging.WARNING, logger="tm_torchrl.trainers"):
        found, manifest = checkpoints.load()
    assert found["steps"][0] == manifest["frames"] == 20
    assert len(caplog.records) == 1
    caplog.records[0].getMessage().index("frames_000000000030")
    assert caplog.records[0].getMessage().endswith("frames_000000000020 is loaded")
    with pytest.raises(CheckpointError, match=reason):
        checkpoints.load(30)
    caplog.clear()
    harm(tmp_path / "frames_000000000010")
    checkpoints.load()
    assert "frames_000000000010" not in caplog.text  # older than the one that was found
    harm(tmp_path / "frames_000000000020")
    with pytest.raises(CheckpointError, match=rf"no complete checkpoint in .*frames_\*.*frames_000000000030.*{reason}"):
        checkpoints.load()
    save(checkpoints, 40)  # goes on
    assert checkpoints.load()[1]["frames"] == 40


def rewrite(folder: Path, **changes: object) -> None:
    """Change entries of a manifest, whose checksum is right again; ``None`` removes one."""
    manifest = {**atomic_files.read_manifest(folder / "manifest.json", version=1), **changes}
    kept = {name: value for name, value in manifest.items() if value is not None}
    atomic_files.write_manifest(folder / "manifest.json", kept)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", None),
        ("version", 2),
        ("serial", None),
        ("serial", "x"),
        ("serial", -1),
        ("frames", [3]),
        ("facts", 5),
        ("files", None),
        ("files", ["state.pt"]),
        ("files", {"state.pt": 5}),
        ("files", {"state.pt": {"bytes": 3}}),
        ("files", {"../state.pt": {"bytes": 3, "crc32": 3}}),
    ],
)
def test_a_manifest_of_another_kind_is_passed_over(tmp_path: Path, name: str, value: object) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 10)
    checkpoints.keep = 3
    save(checkpoints, 20)
    rewrite(tmp_path / "frames_000000000020", **{name: value})
    assert checkpoints.load()[1]["frames"] == 10
    with pytest.raises(CheckpointError, match=rf"manifest\.json: ({name}|bytes|crc32|file)"):
        checkpoints.load(20)
    save(checkpoints, 30)
    assert checkpoints.load()[1]["frames"] == 30


def test_a_manifest_without_end_is_passed_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 10, 20)
    (tmp_path / "frames_000000000020" / "manifest.json").write_text('{"a":' * 100_000)
    assert checkpoints.load()[1]["frames"] == 10


def test_damaged_ones_do_not_count_among_those_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, 10, 20)
    (tmp_path / "frames_000000000020" / "state.pt").write_bytes(b"cut")
    save(checkpoints, 30)
    assert names(tmp_path) == [f"frames_0000000000{number}" for number in (10, 20, 30)]
    save(checkpoints, 40)  # now there are two newer complete ones
    assert names(tmp_path) == ["frames_000000000030", "frames_000000000040"]


def test_nothing_there(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=rf"no complete checkpoint in .*{folder.name}: looked for frames_\*"):
            Checkpoints(folder).load()
        with pytest.raises(CheckpointError, match="looked for best"):
            Checkpoints(folder).load_best()
        assert Checkpoints(folder).list() == []
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_unpickled_or_pickled(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(TypeError, match=r"state\['path'\] is a (Posix|Windows)Path"):
        checkpoints.save({"path": Path("x")}, frames=1)
    with pytest.raises(TypeError, match=r"facts=.*not JSON serializable"):
        checkpoints.save({}, frames=1, facts={"lap": torch.ones(1)})
    with pytest.raises(ValueError, match="frames=-1"):
        checkpoints.save({}, frames=-1)
    with pytest.raises(ValueError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)
    assert names(tmp_path) == []
    path = checkpoints.save({}, frames=1)
    torch.save({"evil": Path("x")}, path / "state.pt")
    manifest = atomic_files.read_manifest(path / "manifest.json", version=1)
    content = (path / "state.pt").read_bytes()
    manifest["files"]["state.pt"] = {"bytes": len(content), "crc32": atomic_files.file_checksum(path / "state.pt")}
    atomic_files.write_manifest(path / "manifest.json", manifest)
    with pytest.raises(CheckpointError, match=r"[Ww]eights.only"):
        checkpoints.load()


@pytest.mark.parametrize(("code", "fail_at"), [(errno.EACCES, 0), *((errno.ENOSPC, number) for number in range(5))])
def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fail_at: int) -> None:
    """Whichever flush fails (state, manifest, its folder, the folder of checkpoints), the older ones stay."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 10)
    checkpoints.save_best(state(1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    fsync, calls = os.fsync, []

    def refuse(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > fail_at:
            raise OSError(code, "it refuses")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files.os, "fsync", refuse)
        advice = "free space on that disk" if code == errno.ENOSPC else "make the folder writable"
        expectation = pytest.raises(
            CheckpointError, match=rf"frames_000000000020 could not be written to .*it refuses.*; {advice}.*unchanged"
        )
        with expectation if fail_at < 4 else contextlib.nullcontext():
            save(checkpoints, 20)
        if fail_at == 0:
            calls.clear()
            with pytest.raises(CheckpointError, match="best could not be written"):
                checkpoints.save_best(state(2))
    if fail_at < 3:  # the last flush comes after the renaming
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
        assert names(tmp_path) == ["best", "frames_000000000010"]
    save(checkpoints, 30)
    assert names(tmp_path) == ["best", "frames_000000000030"]


def test_a_replacement_that_fails_half_way_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one has stepped aside, and the new one does not get its name (Windows: somebody holds a file)."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 10)
    rename = atomic_files.rename

    def refuse(source: Path, target: Path) -> None:
        if source.name.startswith("partial_"):
            raise PermissionError(errno.EACCES, "in use")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, "rename", refuse)
        with pytest.raises(CheckpointError, match="in use"):
            checkpoints.save(state(5), frames=10)
    assert names(tmp_path) == ["frames_000000000010"]
    assert checkpoints.load()[0]["steps"][0] == 10


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("words")
    with pytest.raises(CheckpointError, match=r"could not be written to .*checkpoints"):
        save(Checkpoints(tmp_path / "checkpoints"), 10)


@pytest.mark.parametrize(("kind", "frames"), [("checkpoint", 10), ("checkpoint", 20), ("best", None)])
def test_cut_off_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, frames: int | None) -> None:
    """A replacement (frames 10) and a new one (20), killed before each of the calls that change the disk."""

    class Killed(BaseException):
        pass

    def killing(function, calls: list, kill_at: int):
        def call(*arguments, **options):
            calls.append(function.__name__)
            if len(calls) > kill_at:
                raise Killed
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(atomic_files.os, "fsync", lambda descriptor: None)  # what counts here is the order

    def write(checkpoints: Checkpoints, number: int) -> None:
        if kind == "best":
            checkpoints.save_best(state(number))
        else:
            checkpoints.save(state(number), frames=frames)

    found, calls = [], []
    while not found or len(calls) >= len(found):
        calls.clear()
        kill_at, folder = len(found), tmp_path / str(len(found))
        checkpoints = Checkpoints(folder)
        save(checkpoints, 5, 10)
        checkpoints.save_best(state(10))
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            for owner, name in (
                (atomic_files.os, "fsync"),
                (atomic_files.os, "replace"),
                (Path, "rename"),
                (Path, "mkdir"),
                (module.shutil, "rmtree"),
            ):
                patch.setattr(owner, name, killing(getattr(owner, name), calls, kill_at))
            write(checkpoints, 99)
        load = checkpoints.load_best if kind == "best" else checkpoints.load
        found.append(load()[0]["steps"][0])
        write(checkpoints, 100)  # what the killed one left is in nobody's way
        save(checkpoints, 30)
        assert load()[0]["steps"][0] == (100 if kind == "best" else 30)
        assert len(names(folder)) == 4 and not [name for name in names(folder) if "_frames" in name or "_best" in name]
    assert set(found) == {10, 99} and found == sorted(found)


WRITER = """
import torch
from tm_torchrl.data.saving.checkpoint import Checkpoints
checkpoints, frames = Checkpoints({folder!r}, keep=2), {start}
while True:
    frames += 1
    checkpoints.save(dict(weight=torch.full((100_000,), float(frames))), frames=frames // 2)
    checkpoints.save_best(dict(weight=torch.full((100_000,), float(frames))))
    print(frames, flush=True)
"""


@pytest.mark.parametrize("num_kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_random(tmp_path: Path, num_kills: int) -> None:
    """What was reported as saved is there. Frames come in pairs, so that every second save replaces."""
    folder, rng, start, reported = tmp_path / "run", np.random.default_rng(num_kills), 0, 0
    for _ in range(num_kills):
        found = kill_after(WRITER.format(folder=str(folder), start=start), rng.uniform(0.02, 0.2))
        lines = [int(line) for line in found if line.isdigit()]
        reported = lines[-1] if lines else reported
        if not reported:
            continue
        checkpoints = Checkpoints(folder, keep=2)
        for load in (checkpoints.load, checkpoints.load_best):
            weight = load()[0]["weight"]
            assert torch.equal(weight, weight[:1].expand(100_000))
            assert reported <= weight[0] <= max(start, reported) + 1
        start = int(checkpoints.load()[0]["weight"][0])
        assert len(checkpoints.list()) <= 3
