"""A run folder belongs to one run at a time, and a new run never falls into an old one's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


class FolderTakenError(RuntimeError):
    """The folder belongs to another run."""


@contextmanager
def claim(folder: Path) -> Iterator[Path]:
    """Holds a run's folder; the system lets go of it when the process ends, however it does.

    Args:
        folder: of a run; raises ``FolderTakenError`` if a run is going on in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: it is no run folder (they lie in runs/)")
    lock = _lock(folder)
    try:
        yield folder
    finally:
        lock.release()


@contextmanager
def claim_new(folder: Path, *, may_rename: bool) -> Iterator[Path]:
    """Holds a folder for a new run: this one, or with ``may_rename`` the first free one of ``NAME_2``, ``NAME_3``, ...

    Args:
        folder: where the run shall lie.
        may_rename: whether a neighbour will do; if not, ``FolderTakenError`` is raised where a run is or was.
    """
    lock, found = _first_free(folder, may_rename)
    try:
        yield found
    finally:
        lock.release()


def _first_free(folder: Path, may_rename: bool) -> tuple[FileLock, Path]:
    number, candidate = 1, folder
    while True:
        candidate.mkdir(parents=True, exist_ok=True)
        try:
            lock = _lock(candidate)
            if not _holds_run(candidate):
                return lock, candidate
            lock.release()
            raise FolderTakenError(
                f"{candidate} holds a run already: resume={candidate} goes on with it; for a new run choose another"
            )
        except FolderTakenError:
            if not may_rename:
                raise
        number += 1
        candidate = folder.with_name(f"{folder.name}_{number}")


def _lock(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderTakenError(f"{folder}: another process is training in it; wait for it, or end it") from None
    except NotImplementedError:  # a file system without locks
        pass
    return lock


def _holds_run(folder: Path) -> bool:
    """A run that left something worth keeping; settings alone are not."""
    return any((folder / "checkpoints").glob("frames_*")) or (folder / "metrics.jsonl").exists()
