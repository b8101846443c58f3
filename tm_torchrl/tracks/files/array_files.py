"""Arrays from files that strangers made: plain numbers and text only, in no more memory than the file has bytes."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAX_BYTES = 2**26  # of one array: a line of 2,800 km, which is no track but a mistake
PLAIN = "biufU"  # kinds: truth, whole numbers, floats, text; nothing that is executed, nothing that is a date


def read_array(file: BinaryIO, *, num_bytes: int) -> np.ndarray:
    """The array of a ``.npy`` stream, whose header is held against the bytes that there are before anything is made.

    Args:
        file: at the stream's beginning.
        num_bytes: of the stream.

    Examples:
        >>> content = io.BytesIO()
        >>> np.save(content, np.array([1.5, 2.5]))
        >>> read_array(io.BytesIO(content.getvalue()), num_bytes=len(content.getvalue()))
        array([1.5, 2.5])
        >>> read_array(io.BytesIO(b"abcdefgh"), num_bytes=8)
        Traceback (most recent call last):
        ValueError: it is no array of numbers (ValueError: the magic string is not correct; ...
    """
    if num_bytes > MAX_BYTES:
        raise ValueError(f"it has {num_bytes:,} bytes; the most is {MAX_BYTES:,}")
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read_header[version](file)
        size = math.prod(shape) * dtype.itemsize
    except Exception as error:  # numpy's reader of headers raises whatever it stumbles over, TokenError among them
        raise ValueError(f"it is no array of numbers ({type(error).__name__}: {error})") from error
    if dtype.kind not in PLAIN:
        raise ValueError(f"it holds {dtype}; plain numbers or text are wanted")
    left = num_bytes - file.tell()
    if size != left or not all(type(length) is int and 0 <= length <= MAX_BYTES for length in shape):  # True is none
        raise ValueError(f"its header tells of {dtype} {list(shape)}, and {left} bytes follow")
    content = bytearray(file.read(size))
    if len(content) != size or not dtype.itemsize:
        raise ValueError(f"{size} bytes of {dtype} were to follow, and {len(content)} do")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def read_line(path: str | Path) -> np.ndarray:
    """The array of a ``.npy`` file.

    Args:
        path: of the file.
    """
    with Path(path).open("rb") as file:
        return read_array(file, num_bytes=Path(path).stat().st_size)


def read_arrays(path: str | Path, *, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that a ``.npz`` file has; what else lies in it is not looked at.

    Args:
        path: of the file.
        names: of arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            wanted = {name: members[f"{name}.npy"] for name in names if f"{name}.npy" in members}
            return {name: _member(archive, member) for name, member in wanted.items()}
    except OSError:
        raise
    except Exception as error:  # zlib.error, BadZipFile, NotImplementedError, ...: a reader of a hostile format
        raise ValueError(str(error) or type(error).__name__) from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    # The other ways of packing are unpacked in one go, whatever size was told.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed in way {member.compress_type}; numpy stores or deflates")
    if member.file_size > MAX_BYTES:
        raise ValueError(f"{member.filename} tells of {member.file_size:,} bytes; the most is {MAX_BYTES:,}")
    content = archive.read(member)
    try:
        return read_array(io.BytesIO(content), num_bytes=len(content))
    except ValueError as error:
        raise ValueError(f"{member.filename}: {error}") from error
