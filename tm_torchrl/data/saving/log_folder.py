"""The folder of a saved replay: numbered files, and a manifest that is replaced when all of them are on the disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tm_torchrl.data.saving import whole_files

_LOG = logging.getLogger("tm_torchrl.data")
_VERSION = 1
_OWN_FILE = re.compile(r"segment_(\d+)\.rows|state_(\d+)\.pt|manifest\.json\.partial")


class LogFolder:
    """Names, replaces and deletes the files of a saved replay; files of other names are left alone.

    Args:
        path: of the folder.
        error: raised when the manifest is damaged.
    """

    def __init__(self, path: Path, *, error: type[whole_files.DamagedFileError]) -> None:
        self.path = path
        self.error = error

    def exists(self) -> bool:
        """Whether anything has been saved."""
        return (self.path / whole_files.MANIFEST).exists()

    def manifest(self) -> dict[str, Any]:
        """What is saved."""
        return whole_files.read_manifest(self.path / whole_files.MANIFEST, version=_VERSION, error=self.error)

    def next_number(self) -> int:
        """No file of this number or a higher one exists."""
        matches = (_OWN_FILE.fullmatch(path.name) for path in self._own_files())
        return 1 + max((int(match[1] or match[2] or 0) for match in matches if match), default=0)

    def size(self, file: str) -> int:
        """Of a file; -1 if it is missing."""
        path = self.path / file
        return path.stat().st_size if path.exists() else -1

    def commit(self, manifest: dict[str, Any], new_files: Iterable[str]) -> None:
        """Wait for the disk, replace the manifest, delete what it does not name."""
        for file in new_files:
            whole_files.flush_file(self.path / file)
        whole_files.flush_folder(self.path)
        whole_files.write_manifest(self.path / whole_files.MANIFEST, {"version": _VERSION, **manifest})
        named = self._named(manifest)
        for path in self._own_files():
            if path.name not in named:
                _unlink(path)

    def discard(self, number: int) -> None:
        """Delete the files of an append that failed, from its number on: they may be what filled the disk."""
        try:
            named = self._named(self.manifest()) if self.exists() else set()
        except (whole_files.DamagedFileError, ValueError):
            named = set()
        for path in self._own_files():
            match = _OWN_FILE.fullmatch(path.name)
            if match is not None and path.name not in named and int(match[1] or match[2] or number) >= number:
                _unlink(path)

    def _named(self, manifest: dict[str, Any]) -> set[str]:
        return {manifest["state"]["file"], *(entry["file"] for entry in manifest["segments"])}

    def _own_files(self) -> list[Path]:
        return [path for path in self.path.iterdir() if _OWN_FILE.fullmatch(path.name)]


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError as problem:  # Windows: somebody is reading it; the next append tries again
        _LOG.info("%s stays for now: %s", path, problem)
