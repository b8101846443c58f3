"""A run folder is locked by one run at a time, also across processes, and is free again after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tm_torchrl.record.folder_claim import FolderLinksError, FolderTakenError, claim, claim_new, is_claimed

HOLD = """
import sys, time
from pathlib import Path
from tm_torchrl.record.folder_claim import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_new_runs_of_the_same_second_lie_side_by_side(tmp_path: Path) -> None:
    folder = tmp_path / "task" / "12-00-00"
    with (
        claim_new(folder, may_rename=True) as first,
        claim_new(folder, may_rename=True) as second,
        claim_new(folder, may_rename=True) as third,
    ):
        assert [first, second, third] == [folder, folder.with_name("12-00-00_2"), folder.with_name("12-00-00_3")]
        assert all(path.is_dir() for path in (first, second, third))


def test_a_named_folder_is_not_shared(tmp_path: Path) -> None:
    with claim_new(tmp_path / "run", may_rename=False) as folder:
        with pytest.raises(FolderTakenError, match="another process is training in it"), claim(folder):
            pass
        with pytest.raises(FolderTakenError, match="another process"), claim_new(folder, may_rename=False):
            pass
    with claim(folder) as again:
        assert again == folder


def test_a_new_run_does_not_touch_an_old_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "frames_000000512").mkdir(parents=True)
    with pytest.raises(FolderTakenError, match=r"holds a run already: .*resume=.*run"):
        claim_new(run, may_rename=False).__enter__()
    with claim_new(run, may_rename=True) as folder:
        assert folder == tmp_path / "run_2"
    with claim(run):
        pass


def test_what_cannot_be_resumed_makes_room(tmp_path: Path) -> None:
    """Neither a resumed run nor a new one could use the folder otherwise."""
    for number in (1, 2):
        (tmp_path / "checkpoints" / "best").mkdir(parents=True)
        (tmp_path / "metrics.jsonl").write_text(f"{number}")
        (tmp_path / "notes.txt").write_text("mine")
        messages: list[str] = []
        with claim_new(tmp_path, may_rename=False, log=messages.append) as folder:
            assert {path.name for path in folder.iterdir()} >= {"notes.txt", f"ended_early_{number}"}
            assert not (folder / "metrics.jsonl").exists() and not (folder / "checkpoints").exists()
        assert (tmp_path / f"ended_early_{number}" / "metrics.jsonl").read_text() == f"{number}"
        assert len(messages) == 1 and f"ended_early_{number}" in messages[0]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("link", ["config.yaml.partial", ".lock", "replay", "replay/train", "laps/oval_1.npz"])
def test_a_folder_with_links_is_no_place_to_write(link: str, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    (run / link).parent.mkdir(parents=True)
    other.mkdir()
    (run / link).symlink_to(other)
    for claimed in (claim(run), claim_new(run, may_rename=True)):
        with pytest.raises(FolderLinksError, match=rf"{link} is a link to {other}"):
            claimed.__enter__()
    assert not list(other.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="locks are other there")
def test_a_lock_that_is_another_file_too_is_left_alone(tmp_path: Path) -> None:
    """Locking a file empties it, and an archive may hold a hard link."""
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.write_text("mine")
    run.mkdir()
    os.link(victim, run / ".lock")
    assert not is_claimed(run)
    with pytest.raises(FolderLinksError, match=r"\.lock"):
        claim(run).__enter__()
    assert victim.read_text() == "mine"


def test_settings_alone_are_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0")
    with claim_new(tmp_path, may_rename=False) as folder:
        assert folder == tmp_path


def test_there_is_nothing_to_resume_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a run folder"), claim(tmp_path / "none"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_releases_the_lock(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(FolderTakenError, match="another process"), claim(tmp_path):
        pass
    process.kill()
    process.communicate()
    with claim(tmp_path):
        pass


def test_a_file_system_without_locks_is_no_reason_not_to_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, **options: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr("tm_torchrl.record.folder_claim.FileLock.acquire", refuse)
    with claim_new(tmp_path / "run", may_rename=False) as folder, claim(folder) as again:
        assert again == folder == tmp_path / "run"
