"""Files of JSON lines that a training appends to."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]

MOST_BYTES = 2**30  # of a run of a few million rows, which must be a mistake


class GrowingFile:
    """The rows of a file of JSON lines; each refresh reads only what is new.

    A file that became shorter, or was replaced, as a resumed run does it, is read again from its start. Links are not
    followed: a run folder from elsewhere must not choose which file is shown.

    Args:
        path: The file, which need not exist yet.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = GrowingFile(Path(folder) / "rows.jsonl")
        ...     _ = file.path.write_text('{"frames": 1}\\n{"fra')
        ...     file.refresh()
        ...     file.rows
        [{'frames': 1}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self.changed_at = 0.0
        self._read = 0
        self._identity = (0, 0)

    def refresh(self) -> None:
        """Read the complete lines that were added."""
        try:
            found = self.path.lstat()
            if self.path.is_symlink():
                return
        except OSError:
            self.rows, self._read = [], 0
            return
        identity = (found.st_dev, found.st_ino)
        if identity != self._identity or found.st_size < self._read:
            self.rows, self._read, self._identity = [], 0, identity
        self.changed_at = found.st_mtime
        if found.st_size == self._read:
            return
        if found.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"must have at most {MOST_BYTES:,} bytes", str(self.path))
        with open(self.path, "rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        for line in whole.splitlines():
            try:
                row = json.loads(line.decode(errors="replace"))
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                self.rows.append(row)
