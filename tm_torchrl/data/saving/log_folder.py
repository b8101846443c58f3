"""The folder of a saved replay: numbered files, and a manifest that is replaced once all of them are on the disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tm_torchrl.data.saving import atomic_files
from tm_torchrl.data.saving.atomic_files import MANIFEST, DamagedFileError

_LOG = logging.getLogger("tm_torchrl.data")
_VERSION = 1
_FILE = {"file": str, "bytes": int, "crc32": int}
_NUMBERS: dict[str, type] = {"rows": int, "end": int, "offset": int}
_KINDS = {"settings": dict, "layout": dict, "facts": dict, "state": dict, "segments": list, **_NUMBERS}
_OWN_FILE = re.compile(r"segment_(\d+)\.rows|state_(\d+)\.pt|manifest\.json\.partial")


class LogFolder:
    """Names, replaces and deletes the files of a saved replay; files of other names are left alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether anything has been saved."""
        return (self.path / MANIFEST).exists()

    def manifest(self) -> dict[str, Any]:
        """The manifest of the last append."""
        path = self.path / MANIFEST
        manifest = atomic_files.read_manifest(path, version=_VERSION)
        atomic_files.check_kinds(path, manifest, _KINDS)
        atomic_files.check_kinds(path, manifest["layout"], {"rows": list, "frames": list})
        atomic_files.check_kinds(path, manifest["state"], _FILE)
        for entry in manifest["segments"]:
            atomic_files.check_kinds(path, entry, {**_FILE, "first": int, "rows": int, "frames": int})
        return manifest

    def next_number(self) -> int:
        """A number above those of all existing files."""
        matches = (_OWN_FILE.fullmatch(path.name) for path in self._own_files())
        return 1 + max((int(match[1] or match[2] or 0) for match in matches if match), default=0)

    def size(self, file: str) -> int:
        """Size of a file in bytes; -1 if it is missing."""
        path = self.path / file
        return path.stat().st_size if path.exists() else -1

    def commit(self, manifest: dict[str, Any], new_files: Iterable[str]) -> None:
        """Wait for the disk, replace the manifest, and delete files that it does not name."""
        for file in new_files:
            atomic_files.flush_file(self.path / file)
        atomic_files.flush_folder(self.path)
        atomic_files.write_manifest(self.path / MANIFEST, {"version": _VERSION, **manifest})
        named = _files_named_in(manifest)
        for path in self._own_files():
            if path.name not in named:
                _unlink(path)

    def discard(self, number: int) -> None:
        """Delete the files of a failed append, from its number on: they may be what filled the disk."""
        try:
            named = _files_named_in(self.manifest()) if self.exists() else set()
        except (DamagedFileError, ValueError):
            named = set()
        for path in self._own_files():
            match = _OWN_FILE.fullmatch(path.name)
            if match is not None and path.name not in named and int(match[1] or match[2] or number) >= number:
                _unlink(path)

    def _own_files(self) -> list[Path]:
        return [path for path in self.path.iterdir() if _OWN_FILE.fullmatch(path.name)]


def _files_named_in(manifest: dict[str, Any]) -> set[str]:
    return {manifest["state"]["file"], *(entry["file"] for entry in manifest["segments"])}


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError as problem:  # Windows: another process is reading it; the next append tries again
        _LOG.info("%s could not be deleted yet: %s", path, problem)
