"""Array files: read from untrusted sources in no more memory than the file has bytes, and written as a whole."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAX_BYTES = 2**26  # of one array: a line of 2,800 km, which must be a mistake
PLAIN = "biufU"  # kinds: booleans, integers, floats, text; neither objects, which are executed, nor dates


def write_whole(path: str | Path, write: Callable[[BinaryIO], None], *, suffix: str) -> Path:
    """Write beside the target and rename, so that a crash leaves the old file or the new one; returns the path.

    Args:
        path: The file to write.
        write: Writes the content to an open file.
        suffix: What the path has to end in.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f"path={str(path)!r}: must end in {suffix}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: the folder {str(path.parent)!r} does not exist; create it")
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            write(file)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def read_array(file: BinaryIO, *, num_bytes: int) -> np.ndarray:
    """The array of a ``.npy`` stream; its header is compared to the stream's size before memory is allocated.

    Examples:
        >>> content = io.BytesIO()
        >>> np.save(content, np.array([1.5, 2.5]))
        >>> read_array(io.BytesIO(content.getvalue()), num_bytes=len(content.getvalue()))
        array([1.5, 2.5])
        >>> read_array(io.BytesIO(b"abcdefgh"), num_bytes=8)
        Traceback (most recent call last):
        ValueError: not an array of numbers (ValueError: the magic string is not correct; ...
    """
    if num_bytes > MAX_BYTES:
        raise ValueError(f"the file has {num_bytes:,} bytes; must be at most {MAX_BYTES:,}")
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read_header[version](file)
        size = math.prod(shape) * dtype.itemsize
    except Exception as error:  # numpy's header reader raises errors of many types, TokenError among them
        raise ValueError(f"not an array of numbers ({type(error).__name__}: {error})") from error
    if dtype.kind not in PLAIN:
        raise ValueError(f"the array has dtype {dtype}; must be plain numbers or text")
    left = num_bytes - file.tell()
    if size != left or not all(type(length) is int and 0 <= length <= MAX_BYTES for length in shape):  # no bool
        raise ValueError(f"the header says {dtype} {list(shape)}, but {left} bytes follow")
    content = bytearray(file.read(size))
    if len(content) != size or not dtype.itemsize:
        raise ValueError(f"the header says {size} bytes of {dtype}, but {len(content)} follow")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def read_line(path: str | Path) -> np.ndarray:
    """The array of a ``.npy`` file."""
    with Path(path).open("rb") as file:
        return read_array(file, num_bytes=Path(path).stat().st_size)


def read_arrays(path: str | Path, *, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that a ``.npz`` file has; its other members are not read."""
    if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
        raise ValueError(f"{path}: must be a regular file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            found = {name: members[f"{name}.npy"] for name in names if f"{name}.npy" in members}
            return {name: _member(archive, member) for name, member in found.items()}
    except OSError:
        raise
    except Exception as error:  # zlib.error, BadZipFile, NotImplementedError, ...
        raise ValueError(str(error) or type(error).__name__) from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    # Other compression methods unpack everything at once, even if it is more than the stated size.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename}: compression method {member.compress_type} must be stored or deflated")
    if member.file_size > MAX_BYTES:
        raise ValueError(f"{member.filename} has {member.file_size:,} bytes; must be at most {MAX_BYTES:,}")
    content = archive.read(member)
    try:
        return read_array(io.BytesIO(content), num_bytes=len(content))
    except ValueError as error:
        raise ValueError(f"{member.filename}: {error}") from error
