"""A replay buffer in a folder: written as a whole or not at all, checked when it is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer, TensorStorage

from tm_torchrl.data.saving.buffer_settings import check_settings, settings_of
from tm_torchrl.data.saving.plain_state import from_plain, to_plain
from tm_torchrl.data.saving.whole_files import (
    MANIFEST,
    DamagedFileError,
    check_file,
    checksum,
    checksum_of,
    flush,
    flush_folder,
    read_manifest,
)
from tm_torchrl.data.storage.frame_store import FrameStorage

_VERSION = 1
_CONTENT = "buffer.pt"


class DamagedBufferError(DamagedFileError):
    """A saved buffer is incomplete or was changed."""


def save_buffer(buffer: ReplayBuffer, folder: str | Path) -> Path:
    """Write contents, priorities, pending steps, batches sampled ahead and random generator of a buffer to a folder.

    The folder appears, or is replaced, only when all is on the disk; at any moment the one before or the new one can be
    loaded. Nothing in it is pickled objects. No other process may write into the buffer meanwhile.

    Args:
        buffer: any TorchRL replay buffer with a tensor storage.
        folder: to be written or replaced.

    Examples:
        >>> import tempfile
        >>> from tensordict import TensorDict
        >>> from tm_torchrl.data import make_replay_buffer
        >>> one, two = (make_replay_buffer(capacity=9, batch_size=2, prioritized=True, seed=0) for _ in range(2))
        >>> _ = one.extend(TensorDict({"x": torch.arange(5)}, [5]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     load_buffer(two, save_buffer(one, f"{folder}/replay"))
        >>> torch.equal(one.sample()["x"], two.sample()["x"])
        True
    """
    folder = Path(folder)
    if folder.exists() and not (folder / MANIFEST).exists():
        raise FileExistsError(f"folder={folder}: it exists and is no saved buffer; choose another name")
    state = to_plain(_state_of(buffer), name="buffer.state_dict()")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, previous = _beside(folder, "partial"), _beside(folder, "previous")
    if not folder.exists() and previous.exists():  # an earlier replacement was cut off
        previous.rename(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with open(partial / _CONTENT, "wb") as file:
        torch.save(state, file)
        flush(file)
    files = {_CONTENT: {"bytes": (partial / _CONTENT).stat().st_size, "crc32": checksum(partial / _CONTENT)}}
    manifest = {"version": _VERSION, "settings": settings_of(buffer), "files": files}
    with open(partial / MANIFEST, "w", encoding="utf-8") as file:
        json.dump({**manifest, "crc32": checksum_of(manifest)}, file, indent=1)
        flush(file)
    flush_folder(partial)
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        folder.rename(previous)
    partial.rename(folder)
    flush_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)
    return folder


def load_buffer(buffer: ReplayBuffer, folder: str | Path) -> None:
    """Fill a buffer from a folder; its next samples are those that the saved one would have drawn.

    Args:
        buffer: built with the same settings as the saved one; only the batch size may be another.
        folder: written by ``save_buffer``.
    """
    folder = Path(folder)
    if not folder.exists() and _beside(folder, "previous").exists():
        folder = _beside(folder, "previous")
    if not folder.exists():
        raise FileNotFoundError(f"folder={folder}: no such saved buffer")
    manifest = read_manifest(folder / MANIFEST, version=_VERSION, error=DamagedBufferError)
    for name, facts in manifest["files"].items():
        check_file(folder / name, facts, error=DamagedBufferError)
    check_settings(manifest["settings"], settings_of(buffer))
    state = from_plain(torch.load(folder / _CONTENT, weights_only=True))
    if state["_batch_size"] != buffer._batch_size:
        state["_batch_size"] = buffer._batch_size
        state["_prefetch_state"]["queue"] = ()
    rows = state["_storage"].pop("rows", None)
    if rows is not None:
        buffer.storage.set(torch.arange(len(rows)), rows)
    buffer.load_state_dict(state)


def _state_of(buffer: ReplayBuffer) -> dict[str, Any]:
    """The buffer's state; of a storage that is not full, only the rows that are."""
    state: dict[str, Any] = buffer.state_dict()
    storage = buffer.storage
    if isinstance(storage, TensorStorage) and not isinstance(storage, FrameStorage):
        whole = storage._storage
        if isinstance(whole, TensorDictBase):
            facts = {name: value for name, value in state["_storage"].items() if name != "_storage"}
            state["_storage"] = {**facts, "_storage": {}, "rows": whole[: len(storage)]}
    return state


def _beside(folder: Path, word: str) -> Path:
    return folder.with_name(f"{folder.name}.{word}")
