"""A replay buffer in a folder: written as a whole or not at all, checked when it is read."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import torch
from torchrl.data import ReplayBuffer

_VERSION = 1
_CONTENT, _MANIFEST = "buffer.pt", "manifest.json"


class DamagedBufferError(RuntimeError):
    """A saved buffer is incomplete or was changed."""


def save_buffer(buffer: ReplayBuffer, folder: str | Path) -> Path:
    """Write contents, priorities, pending steps and random generator of a buffer to a folder.

    The folder appears, or is replaced, only when all is on the disk; at any moment the one before or the new one can be
    loaded. Nothing in it is pickled objects.

    Args:
        buffer: any TorchRL replay buffer with a tensor storage.
        folder: to be written or replaced.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / _MANIFEST).exists():
        raise FileExistsError(f"folder={folder}: it exists and is no saved buffer; choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, previous = _beside(folder, "partial"), _beside(folder, "previous")
    if not folder.exists() and previous.exists():  # an earlier replacement was cut off
        previous.rename(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with open(partial / _CONTENT, "wb") as file:
        torch.save(buffer.state_dict(), file)
        _flush(file)
    files = {_CONTENT: {"bytes": (partial / _CONTENT).stat().st_size, "crc32": _checksum(partial / _CONTENT)}}
    with open(partial / _MANIFEST, "w") as file:
        json.dump({"version": _VERSION, "settings": settings_of(buffer), "files": files}, file, indent=1)
        _flush(file)
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        folder.rename(previous)
    partial.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
    return folder


def load_buffer(buffer: ReplayBuffer, folder: str | Path) -> None:
    """Fill a buffer from a folder; its next samples are those that the saved one would have drawn.

    Args:
        buffer: built with the same settings as the saved one.
        folder: written by ``save_buffer``.
    """
    folder = Path(folder)
    if not folder.exists() and _beside(folder, "previous").exists():
        folder = _beside(folder, "previous")
    if not folder.exists():
        raise FileNotFoundError(f"folder={folder}: no such saved buffer")
    manifest = _read_manifest(folder)
    for name, facts in manifest["files"].items():
        _check_file(folder / name, facts)
    _check_settings(manifest["settings"], settings_of(buffer))
    buffer.load_state_dict(torch.load(folder / _CONTENT, weights_only=True))


def settings_of(buffer: ReplayBuffer) -> dict[str, Any]:
    """What must be equal between the buffer that wrote a folder and the one that reads it."""
    sampler = getattr(buffer, "prioritized_sampler", None) or buffer.sampler
    storage = buffer.storage
    settings: dict[str, Any] = {
        "storage": type(storage).__name__,
        "capacity": storage.max_size,
        "sampler": type(sampler).__name__,
        "alpha": getattr(sampler, "alpha", None),
        "transforms": [type(transform).__name__ for transform in buffer.transform or ()],
    }
    if len(storage):
        row = storage.get(torch.zeros(1, dtype=torch.int64))[0]
        settings["entries"] = {
            ".".join((key,) if isinstance(key, str) else key): f"{value.dtype} {list(value.shape)}"
            for key, value in sorted(row.items(True, True), key=lambda item: str(item[0]))
        }
    return settings


def _beside(folder: Path, word: str) -> Path:
    return folder.with_name(f"{folder.name}.{word}")


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise DamagedBufferError(f"{folder / _MANIFEST} is missing or cut short: {error}") from error
    if manifest.get("version") != _VERSION:
        raise DamagedBufferError(
            f"{folder / _MANIFEST}: version {manifest.get('version')}; this program reads {_VERSION}"
        )
    return manifest


def _check_file(path: Path, facts: dict[str, int]) -> None:
    if not path.exists():
        raise DamagedBufferError(f"{path} is missing")
    if path.stat().st_size != facts["bytes"]:
        raise DamagedBufferError(
            f"{path} has {path.stat().st_size} bytes instead of {facts['bytes']}: it was cut short"
        )
    if _checksum(path) != facts["crc32"]:
        raise DamagedBufferError(f"{path} does not match its checksum: it was changed or damaged")


def _check_settings(saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        old = saved.get(name)
        if name == "entries" and old is not None:
            for key in sorted(set(old) | set(value)):
                if old.get(key) != value.get(key):
                    raise ValueError(
                        f"the saved buffer differs in the entry {key!r}: {old.get(key, 'absent')} there, "
                        f"{value.get(key, 'absent')} here"
                    )
        elif name != "entries" and old != value:
            raise ValueError(f"the saved buffer differs in {name}: {old!r} there, {value!r} here")
