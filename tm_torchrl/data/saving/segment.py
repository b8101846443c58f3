"""One segment of a saved replay: consecutive rows of a storage as raw bytes, with the frames that they use.

A file holds each entry of the records, with all its rows, one entry after another. For a frame store these are
followed by the slot numbers that the rows use (int64) and each kind of frame, slot by slot, so that a segment can be
read without the others. Shapes and types are in the manifest.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Storage, TensorStorage

from tm_torchrl.data.storage.frame_store import SLOTS, FrameStorage, as_words

_FRAMES_AT_ONCE = 256

Layout = dict[str, list[list[Any]]]  # "rows" and "frames": [key, type, shape]


class Segment(NamedTuple):
    """A segment in the manifest; rows are numbered from the first one that was ever written."""

    file: str
    first: int
    rows: int
    frames: int
    bytes: int
    crc32: int

    @property
    def end(self) -> int:
        """The row after the last."""
        return self.first + self.rows


class PlannedSegment(NamedTuple):
    """A segment that will be written."""

    file: str
    first: int
    rows: int
    spans: list[tuple[int, int]]  # starts and stops in the storage
    slots: Tensor
    bytes: int


class Move(NamedTuple):
    """Rows of a segment and their place in the storage."""

    skip: int
    num: int
    position: int


def layout_of(storage: Storage) -> Layout:
    """Keys, types and shapes of a storage's rows and frames."""
    frames = storage._frames if isinstance(storage, FrameStorage) else {}
    return {
        "rows": [[list(key), _name(leaf.dtype), list(leaf.shape[1:])] for key, leaf in _leaves(storage)],
        "frames": [[[key], _name(leaf.dtype), list(leaf.shape[1:])] for key, leaf in sorted(frames.items())],
    }


def prepare(storage: Storage, layout: Layout) -> None:
    """Reserve a storage's memory unless that is done already."""
    if storage.initialized:
        return
    row, frames = (
        {tuple(key): torch.zeros(1, *shape, dtype=getattr(torch, name)) for key, name, shape in layout[part]}
        for part in ("rows", "frames")
    )
    record = TensorDict({}, [1])
    for key, value in row.items():
        record.set(key, value)
    if isinstance(storage, FrameStorage):
        storage._reserve(record.exclude(SLOTS), {key[0]: frame for key, frame in frames.items()})
    else:
        storage.set(torch.arange(1), record)


def spans(first: int, num: int, *, capacity: int) -> list[tuple[int, int]]:
    """Where ``num`` rows from a position on lie in a ring buffer: one or two spans (start, stop).

    Examples:
        >>> spans(7, 5, capacity=10)
        [(7, 10), (0, 2)]
    """
    first %= capacity
    stop = min(first + num, capacity)
    return [(first, stop)] + ([(0, first + num - stop)] if first + num > stop else [])


def plan_segment(storage: Storage, file: str, first: int, where: list[tuple[int, int]]) -> PlannedSegment:
    """The size and contents of a segment.

    Args:
        storage: Holds the rows.
        file: Name of the file to write.
        first: Number of the first row.
        where: Starts and stops of the rows in the storage.
    """
    slots, rows = _slots_of(storage, where), sum(stop - start for start, stop in where)
    num_bytes = rows * sum(_row_bytes(leaf) for _, leaf in _leaves(storage)) + slots.nbytes
    for frames in storage._frames.values() if isinstance(storage, FrameStorage) else ():
        num_bytes += len(slots) * _row_bytes(frames)
    return PlannedSegment(file, first, rows, where, slots, num_bytes)


def parts(storage: Storage, planned: PlannedSegment) -> Iterator[Any]:
    """The bytes of a segment's file in parts; only frames are copied, into memory that the next part reuses."""
    for _, leaf in _leaves(storage):
        for start, stop in planned.spans:
            yield _bytes(leaf[start:stop])
    if isinstance(storage, FrameStorage):
        yield _bytes(planned.slots)
        for _, frames in sorted(storage._frames.items()):
            words = as_words(frames)
            room = words.new_empty(min(_FRAMES_AT_ONCE, len(planned.slots)), words.shape[1])
            for chunk in _chunks(planned.slots):
                gathered = room[: len(chunk)]
                torch.index_select(words, 0, chunk.to(words.device), out=gathered)
                yield _bytes(gathered)


def _slots_of(storage: Storage, where: Sequence[tuple[int, int]]) -> Tensor:
    """The slots that rows of a frame store use, in order; other storages have none."""
    if not isinstance(storage, FrameStorage) or not storage.initialized:
        return torch.zeros(0, dtype=torch.int64)
    used = torch.cat([storage._storage[SLOTS][start:stop].flatten().cpu() for start, stop in where])
    return torch.unique(used)


def checksum_of_row(storage: Storage, position: int) -> int:
    """CRC-32 of one row and its frames."""
    checksum = 0
    for part in parts(storage, plan_segment(storage, "", position, [(position, position + 1)])):
        checksum = zlib.crc32(part, checksum)
    return checksum


def read_segment(path: Path, storage: Storage, segment: Segment, moves: Sequence[Move]) -> None:
    """Copy rows of a checked segment to their places and its frames into their slots; read older segments first."""
    with open(path, "rb") as file:
        offset = 0
        for key, leaf in _leaves(storage):
            row_bytes = _row_bytes(leaf)
            for move in moves:
                file.seek(offset + move.skip * row_bytes)
                _read(file, leaf[move.position : move.position + move.num], what=f"{path} {key}")
            offset += segment.rows * row_bytes
        if not isinstance(storage, FrameStorage):
            return
        file.seek(offset)
        slots = torch.empty(segment.frames, dtype=torch.int64)
        _read(file, slots, what=f"{path} slots")
        for name, frames in sorted(storage._frames.items()):
            for chunk in _chunks(slots):  # a slot that was reused since gets its frame from a later segment
                rows = torch.empty(len(chunk), *frames.shape[1:], dtype=frames.dtype)
                _read(file, rows, what=f"{path} {name}")
                as_words(frames).index_copy_(0, chunk.to(frames.device), as_words(rows).to(frames.device))


def finish(storage: Storage, num_rows: int) -> None:
    """Set the number of rows that a storage holds from its first position on."""
    if isinstance(storage, FrameStorage) and storage.initialized:
        slots = storage._storage[SLOTS][:num_rows].flatten().cpu()
        uses = torch.bincount(slots).to(torch.int32)
        storage._slots.load_state_dict({"uses": uses, "free": (uses == 0).nonzero().squeeze(-1).to(torch.int32)})
    storage._len = num_rows
    storage._bump_mutation_revision()


def check_storage(storage: Storage) -> None:
    """Raise a ``ValueError`` unless the storage keeps TensorDicts in one dimension."""
    if not isinstance(storage, TensorStorage) or storage.ndim != 1:
        raise ValueError(
            f"buffer: its storage is a {type(storage).__name__} of {getattr(storage, 'ndim', 1)} dimensions; must be a "
            "tensor storage of one dimension, such as 'memory', 'memmap' and 'frames' of make_replay_buffer"
        )
    if storage.initialized and not isinstance(storage._storage, TensorDictBase):
        raise ValueError(f"buffer: its rows are {type(storage._storage).__name__}s; must be TensorDicts")


def _leaves(storage: Storage) -> list[tuple[tuple[str, ...], Tensor]]:
    """Entries of the records in alphabetical order."""
    if not storage.initialized:
        return []
    found = [
        ((key,) if isinstance(key, str) else key, value.as_subclass(torch.Tensor))
        for key, value in storage._storage.items(True, True)
    ]
    return sorted(found, key=lambda item: item[0])


def _chunks(slots: Tensor) -> list[Tensor]:
    return [slots[start : start + _FRAMES_AT_ONCE] for start in range(0, len(slots), _FRAMES_AT_ONCE)]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _row_bytes(leaf: Tensor) -> int:
    return math.prod(leaf.shape[1:]) * leaf.element_size()


def _bytes(rows: Tensor) -> Any:
    return rows.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _read(file: BinaryIO, rows: Tensor, *, what: str) -> None:
    """Fill rows from the file's present position."""
    is_direct = rows.device.type == "cpu" and rows.is_contiguous()
    target = rows if is_direct else torch.empty(rows.shape, dtype=rows.dtype)
    memory = memoryview(_bytes(target))
    while len(memory):
        num = file.readinto(memory)  # type: ignore[attr-defined]
        if not num:
            raise EOFError(f"{what}: the file ended early")
        memory = memory[num:]
    if not is_direct:
        rows.copy_(target)
