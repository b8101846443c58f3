"""Damaged kernels in Warp's cache, which a full disk leaves behind: Warp would fail to load them at every start."""

from __future__ import annotations

import json
import logging
import shutil
import struct
from pathlib import Path

_LOG = logging.getLogger(__name__)
OURS = "wp_tm_torchrl.*"


def remove_damaged_kernels(cache: Path) -> None:
    """Delete each of this package's compiled modules that is not whole; Warp then compiles it again.

    Args:
        cache: Folder with a folder for each module.
    """
    for folder in sorted(cache.glob(OURS)):
        if _is_whole(folder):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        if not _is_whole(folder):
            raise OSError(f"{folder} is damaged and cannot be deleted from here: delete it, and Warp compiles it again")
        _LOG.warning("%s was damaged: it is compiled again", folder)


def _is_whole(folder: Path) -> bool:
    """Also of a folder that is gone: another process may remove it and compile it at the same time."""
    try:
        return all(map(_is_whole_object, folder.glob("*.o"))) and all(map(_is_whole_json, folder.glob("*.meta")))
    except OSError:
        return not folder.exists()


def _is_whole_object(path: Path) -> bool:
    """An ELF file ends with its table of sections. Other formats are believed if there is anything in the file."""
    with path.open("rb") as file:
        head = file.read(64)
    if head[:5] != b"\x7fELF\x02":  # of 64 bits
        return len(head) == 64
    if len(head) < 64:
        return False
    table, size, num = struct.unpack_from("<Q", head, 0x28)[0], *struct.unpack_from("<HH", head, 0x3A)
    return path.stat().st_size >= table + size * num


def _is_whole_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True
