"""Files that are whole or absent: checksummed, flushed, then named; and what is said when a disk refuses."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

MANIFEST = "manifest.json"
_BYTES_AT_ONCE = 1 << 20  # read from memory once, for the checksum; the file then takes them from the cache
_RENAME_TRIES, _RENAME_WAIT_S = 20, 0.05  # Windows: a virus scanner holds a new file for a moment


class SavingError(OSError):
    """Something could not be written; what was saved before is untouched."""


class DamagedFileError(RuntimeError):
    """A saved file is incomplete or was changed."""


def write_file(path: Path, parts: Iterable[Any]) -> dict[str, int]:
    """Write bytes to a new file, not yet flushed.

    Args:
        path: of the file.
        parts: bytes, or one-dimensional arrays of them.

    Returns:
        Its size and checksum, which ``check_file`` compares.
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


def packed(state: Any) -> memoryview:
    """A plain state as the bytes of a file that ``unpacked`` reads."""
    file = io.BytesIO()  # errors of a disk come from the file then, not from inside torch's writer
    torch.save(state, file)
    return file.getbuffer()


def unpacked(path: Path) -> Any:
    """What ``packed`` packed; no object in a file is ever run."""
    return torch.load(path, weights_only=True, map_location="cpu")


def flush_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with open(path, "r+b") as file:
        flush(file)


def flush(file: Any) -> None:
    """Wait until what was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Names of files reach the disk; Windows sees to it itself and cannot open folders."""
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
    """Delete a folder if that can be done; under another name first, so that none is found half empty."""
    doomed = folder.with_name(f"removed_{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(OSError):  # on Windows somebody may be reading it: the next time
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    found = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            found = zlib.crc32(block, found)
    return found


def checksum_of(manifest: dict[str, Any]) -> int:
    """CRC-32 of a manifest without its own."""
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def check_file(path: Path, facts: dict[str, int], *, error: type[RuntimeError] = DamagedFileError) -> None:
    """Refuse a file that is not what was written.

    Args:
        path: of the file.
        facts: its ``bytes`` and ``crc32``.
        error: raised with what is wrong.
    """
    if not path.exists():
        raise error(f"{path} is missing")
    if path.stat().st_size != facts["bytes"]:
        raise error(f"{path} has {path.stat().st_size} bytes instead of {facts['bytes']}: it was cut short")
    if checksum(path) != facts["crc32"]:
        raise error(f"{path} does not match its checksum: it was changed or damaged")


def as_json(facts: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Facts as they will be read.

    Args:
        facts: numbers, names, lists and dicts.
        name: of the argument, for messages.

    Examples:
        >>> as_json({"laps": (1, 2)}, name="facts")
        {'laps': [1, 2]}
    """
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(facts)))
    except (TypeError, ValueError) as problem:
        raise TypeError(f"{name}={facts}: {problem}; give numbers, names, lists and dicts") from problem
    return found


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with its checksum, flushed; one that is there is replaced at once or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump({**manifest, "crc32": checksum_of(manifest)}, file, indent=1)
        flush(file)
    rename(partial, path)
    flush_folder(path.parent)


def read_manifest(path: Path, *, version: int, error: type[RuntimeError] = DamagedFileError) -> dict[str, Any]:
    """The manifest, if it is whole and of a version that is known."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = manifest.pop("crc32")
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as problem:
        raise error(f"{path} is missing or cut short: {problem}") from problem
    if found != checksum_of(manifest):
        raise error(f"{path} does not match its checksum: it was changed or damaged")
    if manifest["version"] != version:
        raise ValueError(f"{path}: version {manifest['version']}; this program reads {version}")
    return manifest


@contextlib.contextmanager
def explaining(what: str, folder: Path, *, error: type[SavingError] = SavingError) -> Iterator[None]:
    """Turn an error of the disk into one that says what could not be written, why, and what to do.

    Args:
        what: could not be written.
        folder: where.
        error: its class.
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
            errno.EROFS: "make the disk writable, or save elsewhere",
        }.get(problem.errno or 0, "see to that disk, or save elsewhere")
        reason = problem.strerror or str(problem)
        where = problem.filename or folder
        raise error(
            f"{what} could not be written to {folder} ({reason}: {where}); {advice}. What was saved before is untouched"
        ) from problem
