"""Locks of run folders: one run at a time, and a new run never writes into the folder of an old one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
FOLDERS = ("laps", "checkpoints", "replay", "tensorboard")
RESULTS = ("metrics.jsonl", "metrics.csv", "evaluations.jsonl", "ghosts.jsonl", "messages.jsonl", *FOLDERS)


class FolderTakenError(RuntimeError):
    """The folder is in use, or already holds a run."""


class FolderLinksError(RuntimeError):
    """Something in the folder is a link."""


@contextmanager
def claim(folder: Path) -> Iterator[Path]:
    """Lock the folder of a run; the system releases the lock when the process ends, even if it is killed.

    Raises ``FolderTakenError`` if another process has locked the folder, and ``FolderLinksError`` if the run would
    write elsewhere, through a symbolic link.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: it is not a run folder (they are in runs/)")
    _refuse_links(folder)
    lock = _lock(folder)
    try:
        yield folder
    finally:
        lock.release()


@contextmanager
def claim_new(folder: Path, *, may_rename: bool, log: Callable[[str], None] = lambda message: None) -> Iterator[Path]:
    """Create and lock the folder of a new run.

    The results in it of a run without any checkpoint, which cannot be resumed, are moved into ``ended_early_1``.

    Args:
        folder: Folder for the run.
        may_rename: Takes the first free one of ``NAME_2``, ``NAME_3``, ... if the folder holds a run already; without
            it, ``FolderTakenError`` is raised.
        log: Takes messages.
    """
    lock, found = _first_free(folder, may_rename)
    try:
        _set_aside(found, log)
        yield found
    finally:
        lock.release()


def is_claimed(folder: Path) -> bool:
    """Whether a process is training in a folder."""
    if not (folder / LOCK).is_file():
        return False
    try:
        _lock(folder, wait_s=0.0).release()
    except FolderTakenError:
        return True
    except (FolderLinksError, OSError):  # a folder that is not ours to write
        return False
    return False


def _first_free(folder: Path, may_rename: bool) -> tuple[FileLock, Path]:
    number, candidate = 1, folder
    while True:
        candidate.mkdir(parents=True, exist_ok=True)
        _refuse_links(candidate)
        try:
            lock = _lock(candidate)
            if not _holds_run(candidate):
                return lock, candidate
            lock.release()
            raise FolderTakenError(
                f"{candidate} holds a run already: continue it with resume={candidate}, or choose another folder"
            )
        except FolderTakenError:
            if not may_rename:
                raise
        number += 1
        candidate = folder.with_name(f"{folder.name}_{number}")


def _refuse_links(folder: Path) -> None:
    """Look at what a run writes; W&B, for example, keeps links of its own in another folder."""
    for path in [*folder.iterdir(), *(inner for name in FOLDERS for inner in (folder / name).rglob("*"))]:
        if path.is_symlink():
            raise FolderLinksError(
                f"{path} is a link to {os.readlink(path)}: a run writes into its own folder only; remove the link, or "
                "put there what it points to"
            )


def _lock(folder: Path, *, wait_s: float = 0.3) -> FileLock:
    """Lock a folder; the wait is for those who only look whether it is claimed."""
    path = folder / LOCK
    if path.is_symlink() or (path.exists() and (not path.is_file() or path.stat().st_nlink > 1)):
        raise FolderLinksError(f"{path} is not a file of this folder alone; delete it")  # locking empties the file
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise FolderTakenError(f"{folder}: another process is training in it; wait for it, or end it") from None
    except NotImplementedError:  # the file system has no locks
        pass
    return lock


def _holds_run(folder: Path) -> bool:
    """Whether a run left a checkpoint, and can thus be resumed."""
    return any((folder / "checkpoints").glob("frames_*"))


def _set_aside(folder: Path, log: Callable[[str], None]) -> None:
    left = [folder / name for name in RESULTS if (folder / name).exists()]
    if not left:
        return
    number = 1
    while (aside := folder / f"ended_early_{number}").exists():
        number += 1
    aside.mkdir()
    for path in left:
        path.rename(aside / path.name)
    log(f"a run that ended before its first checkpoint is set aside in {aside}")
