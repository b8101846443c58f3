"""One segment of a saved replay: consecutive rows of a storage as bare bytes, with the frames that they use.

A file holds, one after another: each entry of the records, all rows of it; then, of a frame store, the numbers of the
slots that these rows use (int64) and each kind of frame, slot by slot. So a segment needs no other. Shapes and types
stand in the manifest.
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

from tm_torchrl.data.storage.frame_store import SLOTS, FrameStorage

_FRAMES_AT_ONCE = 256

Layout = dict[str, list[list[Any]]]  # "rows" and "frames": [key, type, shape]


class Segment(NamedTuple):
    """What a manifest says of a segment; rows are counted from the first that was ever written."""

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


class Piece(NamedTuple):
    """A segment that is to be written."""

    file: str
    first: int
    rows: int
    where: list[tuple[int, int]]  # starts and stops in the storage
    slots: Tensor
    bytes: int


class Move(NamedTuple):
    """Rows of a segment and where they go in the storage."""

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
    """Reserve a storage's memory if that has not been done."""
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
    """Where ``num`` rows from a position on lie in a ring: one or two pieces (start, stop).

    Examples:
        >>> spans(7, 5, capacity=10)
        [(7, 10), (0, 2)]
    """
    first %= capacity
    stop = min(first + num, capacity)
    return [(first, stop)] + ([(0, first + num - stop)] if first + num > stop else [])


def piece_of(storage: Storage, file: str, first: int, where: list[tuple[int, int]]) -> Piece:
    """What a segment of certain rows will hold.

    Args:
        storage: of the rows.
        file: to be written.
        first: number of the first row.
        where: the rows' starts and stops.
    """
    slots, rows = slots_of(storage, where), sum(stop - start for start, stop in where)
    num_bytes = rows * sum(_row_bytes(leaf) for _, leaf in _leaves(storage)) + slots.nbytes
    for frames in storage._frames.values() if isinstance(storage, FrameStorage) else ():
        num_bytes += len(slots) * _row_bytes(frames)
    return Piece(file, first, rows, where, slots, num_bytes)


def parts(storage: Storage, piece: Piece) -> Iterator[Any]:
    """The bytes of a segment's file, bit by bit; only frames are copied, into memory that the next bit reuses."""
    for _, leaf in _leaves(storage):
        for start, stop in piece.where:
            yield _bytes(leaf[start:stop])
    if isinstance(storage, FrameStorage):
        yield _bytes(piece.slots)
        for _, frames in sorted(storage._frames.items()):
            words = _words(frames)
            room = words.new_empty(min(_FRAMES_AT_ONCE, len(piece.slots)), words.shape[1])
            for chunk in _chunks(piece.slots):
                gathered = room[: len(chunk)]
                torch.index_select(words, 0, chunk.to(words.device), out=gathered)
                yield _bytes(gathered)


def slots_of(storage: Storage, where: Sequence[tuple[int, int]]) -> Tensor:
    """The slots that rows of a frame store use, in order; none of other storages."""
    if not isinstance(storage, FrameStorage) or not storage.initialized:
        return torch.zeros(0, dtype=torch.int64)
    used = torch.cat([storage._storage[SLOTS][start:stop].flatten().cpu() for start, stop in where])
    return torch.unique(used)


def checksum_of_row(storage: Storage, position: int) -> int:
    """CRC-32 of one row and its frames."""
    checksum = 0
    for part in parts(storage, piece_of(storage, "", position, [(position, position + 1)])):
        checksum = zlib.crc32(part, checksum)
    return checksum


def read_segment(path: Path, storage: Storage, layout: Layout, segment: Segment, moves: Sequence[Move]) -> None:
    """Copy rows of a checked segment to where they belong, its frames into their slots; older segments come first."""
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
            for chunk in _chunks(slots):  # a slot that holds another frame by now gets it from a later segment
                rows = torch.empty(len(chunk), *frames.shape[1:], dtype=frames.dtype)
                _read(file, rows, what=f"{path} {name}")
                _words(frames).index_copy_(0, chunk.to(frames.device), _words(rows).to(frames.device))


def finish(storage: Storage, num_rows: int) -> None:
    """Say how many rows, from the first position on, a storage now holds."""
    if isinstance(storage, FrameStorage) and storage.initialized:
        slots = storage._storage[SLOTS][:num_rows].flatten().cpu()
        uses = torch.bincount(slots).to(torch.int32)
        storage._slots.load_state_dict({"uses": uses, "free": (uses == 0).nonzero().squeeze(-1).to(torch.int32)})
    storage._len = num_rows
    storage._bump_mutation_revision()


def check_storage(storage: Storage) -> None:
    """Refuse storages whose rows cannot be told by number."""
    if not isinstance(storage, TensorStorage) or storage.ndim != 1:
        raise ValueError(
            f"buffer: a {type(storage).__name__} of {getattr(storage, 'ndim', 1)} dimensions; a saved replay takes "
            "tensor storages of one dimension, such as 'memory', 'memmap' and 'frames' of make_replay_buffer"
        )
    if storage.initialized and not isinstance(storage._storage, TensorDictBase):
        raise ValueError(f"buffer: rows are {type(storage._storage).__name__}s; TensorDicts are saved")


def _leaves(storage: Storage) -> list[tuple[tuple[str, ...], Tensor]]:
    """Entries of the records in a settled order."""
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


def _words(frames: Tensor) -> Tensor:
    """The same memory as rows of whole words, since bytes are gathered one by one."""
    rows = frames.as_subclass(torch.Tensor).reshape(len(frames), -1).view(torch.uint8)
    is_whole = rows.shape[1] % 8 == 0 and rows.storage_offset() % 8 == 0
    return rows.view(torch.int64) if is_whole else rows


def _read(file: BinaryIO, rows: Tensor, *, what: str) -> None:
    """Fill rows from where the file stands."""
    is_direct = rows.device.type == "cpu" and rows.is_contiguous()
    target = rows if is_direct else torch.empty(rows.shape, dtype=rows.dtype)
    memory = memoryview(_bytes(target))
    while len(memory):
        num = file.readinto(memory)  # type: ignore[attr-defined]
        if not num:
            raise EOFError(f"{what}: the file ended while it was read")
        memory = memory[num:]
    if not is_direct:
        rows.copy_(target)
