"""Files that are complete or absent: written beside their name, checked by checksum, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tm_torchrl.settings.text_files import read_text

MANIFEST = "manifest.json"
_IS_NAME = re.compile(r"[\w.]*\w").fullmatch  # no path, no "..": a file of the manifest's own folder
_BYTES_AT_ONCE = 1 << 20  # small enough to stay in the CPU's cache between the checksum and the write
_RENAME_TRIES, _RENAME_WAIT_S = 20, 0.05  # Windows: a virus scanner may hold a new file open for a short time


class SavingError(OSError):
    """Something could not be written; what was saved before is unchanged."""


class DamagedFileError(RuntimeError):
    """A saved file is incomplete or was changed."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which replaces ``path`` when the block succeeds and is deleted when it fails.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "notes.txt") as partial:
        ...         _ = partial.write_text("done")
        ...     [file.name for file in Path(folder).iterdir()]
        ['notes.txt']
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "must be a file that may be replaced", str(path))
    partial = without_link(path.with_name(f"{path.name}.partial"))
    try:
        yield partial
        rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def without_link(path: Path) -> Path:
    """The path, where a symbolic link is removed: a folder from elsewhere must not choose which file is written."""
    if path.is_symlink():
        path.unlink()
    return path


def write_file(path: Path, parts: Iterable[Any]) -> dict[str, int]:
    """Write bytes to a new file without flushing it; returns the size and checksum for ``check_file``.

    Args:
        path: The file.
        parts: Bytes, or one-dimensional arrays of bytes.
    """
    num_bytes = checksum = 0
    with open(path, "wb") as file:
        for part in parts:
            memory = memoryview(part)
            for start in range(0, memory.nbytes, _BYTES_AT_ONCE):
                piece = memory[start : start + _BYTES_AT_ONCE]
                checksum = zlib.crc32(piece, checksum)
                file.write(piece)
            num_bytes += memory.nbytes
    return {"bytes": num_bytes, "crc32": checksum}


def flush_file(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with open(path, "r+b") as file:
        flush(file)


def flush(file: Any) -> None:
    """Wait until what was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names of new files are on the disk; Windows does this itself and cannot open folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Rename a file over another, or a folder to a free name."""
    for attempt in range(_RENAME_TRIES):
        try:
            if source.is_dir():
                source.rename(target)
            else:
                os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == _RENAME_TRIES - 1:
                raise
            time.sleep(_RENAME_WAIT_S)


def remove_folder(folder: Path) -> None:
    """Delete a folder if possible; it is renamed first, so that no reader finds it half empty."""
    doomed = folder.with_name(f"removed_{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(OSError):  # Windows: another process may be reading it; the next call tries again
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def file_checksum(path: Path) -> int:
    """CRC-32 of a file."""
    found = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            found = zlib.crc32(block, found)
    return found


def manifest_checksum(manifest: dict[str, Any]) -> int:
    """CRC-32 of a manifest without its own checksum."""
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def check_file(path: Path, facts: dict[str, int]) -> None:
    """Raise ``DamagedFileError`` unless the file has the ``bytes`` and ``crc32`` that ``write_file`` returned."""
    if not path.is_file():
        raise DamagedFileError(f"{path} is missing, or no regular file")
    if path.stat().st_size != facts["bytes"]:
        raise DamagedFileError(f"{path} has {path.stat().st_size} bytes instead of {facts['bytes']}: it was cut short")
    if file_checksum(path) != facts["crc32"]:
        raise DamagedFileError(f"{path} does not match its checksum: it was changed or damaged")


def as_json(facts: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Facts as they will be read back from JSON.

    Args:
        facts: Numbers, strings, lists and dicts.
        name: Name of the argument, for error messages.

    Examples:
        >>> as_json({"laps": (1, 2)}, name="facts")
        {'laps': [1, 2]}
    """
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(facts)))
    except (TypeError, ValueError) as problem:
        raise TypeError(f"{name}={facts}: {problem}; must hold numbers, strings, lists and dicts only") from problem
    return found


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with its checksum and flush it; an existing one is replaced in one step."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump({**manifest, "crc32": manifest_checksum(manifest)}, file, indent=1)
        flush(file)
    flush_folder(path.parent)


def read_manifest(path: Path, *, version: int) -> dict[str, Any]:
    """Read a manifest; raises ``DamagedFileError`` if it is damaged and ``ValueError`` if its version is another."""
    try:
        manifest: dict[str, Any] = json.loads(read_text(path))
        found = manifest.pop("crc32")
        is_whole = found == manifest_checksum(manifest)
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as problem:
        raise DamagedFileError(f"{path} is missing or cut short: {problem}") from problem
    if not is_whole:
        raise DamagedFileError(f"{path} does not match its checksum: it was changed or damaged")
    if manifest.get("version") != version:
        there = manifest.get("version")
        raise ValueError(f"{path}: version {there} of the format; this program reads version {version}")
    return manifest


def check_kinds(path: Path, entries: Any, kinds: Mapping[str, type]) -> None:
    """Raise ``DamagedFileError`` unless a mapping in a manifest has these entries; file names stay in its folder.

    Args:
        path: The manifest.
        entries: The mapping.
        kinds: Kinds of its entries by name; whole numbers must not be negative.
    """
    for name, kind in kinds.items():
        value: Any = entries.get(name) if isinstance(entries, dict) else None
        is_right = isinstance(value, kind) and not isinstance(value, bool)
        if not is_right or (kind is int and value < 0) or (name == "file" and not _IS_NAME(value)):
            raise DamagedFileError(f"{path}: {name}={str(value)[:60]!r} is no {kind.__name__} that could stand there")


@contextlib.contextmanager
def explained_disk_errors(what: str, folder: Path, *, error: type[SavingError] = SavingError) -> Iterator[None]:
    """Turn an ``OSError`` into one that says what could not be written, why, and what to do.

    Args:
        what: What is being written.
        folder: Where it is being written.
        error: Class of the error that is raised.
    """
    try:
        yield
    except SavingError:
        raise
    except OSError as problem:
        advice = {
            errno.ENOSPC: "free space on that disk, or save elsewhere",
            getattr(errno, "EDQUOT", errno.ENOSPC): "free space within your quota, or save elsewhere",
            errno.EACCES: "make the folder writable, or save elsewhere",
            errno.EPERM: "make the folder writable, or save elsewhere",
            errno.EMFILE: "raise the limit of open files, for example with `ulimit -n 4096`",
            errno.EROFS: "make the disk writable, or save elsewhere",
        }.get(problem.errno or 0, "check that disk, or save elsewhere")
        reason = problem.strerror or str(problem)
        where = problem.filename or folder
        raise error(
            f"{what} could not be written to {folder} ({reason}: {where}); {advice}. What was saved before is unchanged"
        ) from problem
