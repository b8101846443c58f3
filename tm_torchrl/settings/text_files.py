"""Text files of run folders, which may come from elsewhere: a pipe would be waited for, a device read without end."""

from __future__ import annotations

import errno
from pathlib import Path


def read_text(path: Path, *, most_bytes: int = 2**24, errors: str = "strict") -> str:
    """The text of a file; raises ``OSError`` for a folder, a pipe or a device, and for a file that is far too large.

    Args:
        path: The file.
        most_bytes: Its largest size; by default that of settings and manifests, which have some kilobytes.
        errors: What is done with bytes that are not UTF-8.
    """
    num_bytes = path.stat().st_size
    if not path.is_file():
        raise OSError(errno.EINVAL, "must be a regular file; delete it, or restore it from a copy", str(path))
    if num_bytes > most_bytes:
        raise OSError(errno.EFBIG, f"has {num_bytes:,} bytes; must be at most {most_bytes:,}", str(path))
    return path.read_text(encoding="utf-8", errors=errors)
