"""``FrameStorage``: a replay storage that keeps each frame once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data.replay_buffers.checkpointers import StorageCheckpointerBase

from tm_torchrl.data.storage.frame_slots import FrameSlots
from tm_torchrl.data.storage.row_storage import RowStorage

SLOTS = "frame_slots"  # int64 [capacity, 2]: slots of the frames before and after a transition
FRAME_ID = "frame_id"
DEFAULT_FRAME_KEYS = ("pixels", "observation")
INDEX = "index"  # a buffer adds it to what it has read or written


class FrameStorageCheckpointer(StorageCheckpointerBase):
    """Writes the state of a frame store to memory-mapped files, without a copy in memory."""

    def dumps(self, storage: FrameStorage, path: str | Path) -> None:
        """Write records, frames and slots under ``path``."""
        if not storage.initialized:
            raise RuntimeError("FrameStorage is empty: write transitions before dumping it")
        TensorDict(storage._state()).memmap(str(path), copy_existing=True)

    def loads(self, storage: FrameStorage, path: str | Path) -> None:
        """Read files that ``dumps`` wrote."""
        storage.load_state_dict(TensorDict.load_memmap(str(path)).to_dict())


class FrameStorage(RowStorage):
    """A storage in which transitions share frames: the image after one action is the image before a later one.

    Samplers and writers see a one-dimensional tensor storage, and samples have the frames at both ends as usual.
    Inside, a transition is a small record with two slot numbers; a slot is freed when the last transition that uses it
    is overwritten. The last observation of an episode takes one more frame. Twice ``max_size`` slots are reserved, as
    if nothing were shared, but memory is used only when a slot is first written.

    Equal frames are found by ``frame_id`` and ("next", "frame_id") of ``NStep(..., frame_ids=True)``. One-step data
    need no ids: each row's next frame is compared, byte by byte, with the following row's frame.

    The buffer's locks protect the storage, so threads may share a buffer.

    Args:
        max_size: Number of transitions.
        frame_keys: Names of the entries, present at the root and under "next", that are kept once; by default
            ``pixels`` and ``observation``, or the one of them that the data have. This saves half of the bytes at
            64x64 pixels and 264 floats.
        device: Device of frames and records.
        embed: By name of an entry, a function of frames ``[M, ...]`` whose result ``[M, ...]`` is kept instead of them.
            It must not change, as that of a frozen encoder does not. Samples have the results.

    Examples:
        >>> from torchrl.data import TensorDictReplayBuffer
        >>> frames = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
        >>> steps = TensorDict({"pixels": frames[:-1], "action": torch.zeros(4).long(),
        ...     "next": {"pixels": frames[1:], "reward": torch.zeros(4, 1)}}, [4])
        >>> buffer = TensorDictReplayBuffer(storage=FrameStorage(100), batch_size=2)
        >>> index = buffer.extend(steps)
        >>> buffer.storage.num_frames, buffer[1]["next", "pixels"]
        (5, tensor([[[2]]], dtype=torch.uint8))
    """

    saved_as = "FrameStorage"
    _default_checkpointer = FrameStorageCheckpointer

    def __init__(
        self,
        max_size: int,
        *,
        frame_keys: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
        embed: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        if max_size < 1:
            raise ValueError(f"max_size={max_size}: must be at least 1")
        if isinstance(frame_keys, str) or (frame_keys is not None and not frame_keys):
            raise ValueError(f"frame_keys={frame_keys!r}: must be a sequence of names, such as ('pixels',)")
        super().__init__(max_size, device=device)
        self.frame_keys = None if frame_keys is None else tuple(frame_keys)
        self.embed = dict(embed or {})
        if self.embed:
            self.saved_as = f"FrameStorage with embeddings of {', '.join(sorted(self.embed))}"
        self._slots = FrameSlots(2 * max_size)
        self._frames: dict[str, Tensor] = {}

    @property
    def num_frames(self) -> int:
        """Number of frames that are stored now."""
        return self._slots.num_used

    def set(self, cursor: Any, data: Any, *, set_cursor: bool = True) -> None:
        """Write transitions, and free frames that only overwritten transitions used."""
        if isinstance(data, list):
            data = torch.stack(data)
        index = torch.arange(self.max_size)[cursor] if isinstance(cursor, slice) else torch.as_tensor(cursor).cpu()
        index = index.nonzero().squeeze(-1) if index.dtype == torch.bool else index.to(torch.int64)
        if index.ndim == 0:
            index, data = index.unsqueeze(0), data.unsqueeze(0)
        keys = self._check(data)
        last = _last_of_each(index)
        if len(last) < len(index):  # the data are longer than the buffer: skip rows that would be overwritten
            index, data = index[last], data[last]
        starts, ends = ({key: part[key] for key in keys} for part in (data, data["next"]))
        if FRAME_ID in data:
            ids = torch.cat([data[FRAME_ID], data["next", FRAME_ID]]).cpu()
        else:
            ids = _ids_by_content(list(starts.values()), list(ends.values()))
        apart = (*keys, FRAME_ID)
        record = data.exclude(INDEX, *apart, *(("next", key) for key in apart))
        if not self.initialized:
            self._reserve(record, {key: self._kept(key, frames[:1]) for key, frames in starts.items()})
        released = self._storage[SLOTS][index].flatten().cpu()
        slot, filled, row = self._slots.place(ids, released=released[released >= 0])
        num = len(index)
        for key, frames_of_key in self._frames.items():
            stored = as_words(frames_of_key)
            for part, source in ((row < num, starts[key]), (row >= num, ends[key])):
                rows = (row[part] % num).to(source.device)
                if not len(rows):
                    continue
                chosen = self._kept(key, source.index_select(0, rows)).to(frames_of_key.device)
                stored.index_copy_(0, filled[part].to(stored.device), as_words(chosen))
        record[SLOTS] = slot.view(2, num).T
        super().set(index, record, set_cursor=set_cursor)

    def get(self, index: Any) -> Any:
        """Transitions with their frames; one entry of all transitions for its key."""
        if isinstance(index, str) or (isinstance(index, tuple) and all(isinstance(part, str) for part in index)):
            return super().get(index)
        record = super().get(index).copy()
        slot = record.pop(SLOTS)
        for key, frames in self._frames.items():
            for where, part in ((key, slot[..., 0]), (("next", key), slot[..., 1])):
                rows = frames.index_select(0, part.flatten().to(frames.device))
                record[where] = rows.view(*part.shape, *frames.shape[1:])
        return record

    def __repr__(self) -> str:
        return f"FrameStorage(max_size={self.max_size}, len={len(self)}, num_frames={self.num_frames})"

    def state_dict(self) -> dict[str, Any]:
        """A copy of the records, the frames in use and their slots, as plain tensors."""
        if not self.initialized:
            return {}
        return TensorDict(self._state()).clone().to_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what another frame store held."""
        if not state_dict:
            self._empty()
            return
        frames, records = state_dict["frames"], TensorDict(state_dict["records"])
        records.batch_size = records[SLOTS].shape[:1]
        expected = set(self._frames) if self.initialized else set(self.frame_keys or frames)
        if set(frames) != expected:
            raise ValueError(f"state_dict: its frames are {sorted(frames)}; must be {sorted(expected)}")
        if len(records) > self.max_size:
            raise ValueError(f"max_size={self.max_size}: too small for the {len(records)} transitions in the state")
        if not self.initialized:
            self._reserve(records.exclude(SLOTS), frames)
        self._empty()
        self._slots.load_state_dict(state_dict["slots"])
        for key, rows in frames.items():
            self._frames[key][: len(rows)] = rows
        self._storage[: len(records)] = records
        self._len = len(records)
        self._bump_mutation_revision()

    def _kept(self, key: str, frames: Tensor) -> Tensor:
        """What is kept of new frames ``[M, ...]``."""
        return self.embed[key](frames) if key in self.embed else frames

    def _state(self) -> dict[str, Any]:
        num = self._slots.num_touched
        return {
            "records": self._storage[: len(self)],
            "frames": {key: frames[:num] for key, frames in self._frames.items()},
            "slots": self._slots.state_dict(),
        }

    def _empty(self) -> None:
        self._slots.clear()
        if self.initialized:
            self._storage[SLOTS].fill_(-1)
        super()._empty()

    def _reserve(self, record: TensorDictBase, frames: dict[str, Tensor]) -> None:
        self._init(record[0].clone().set(SLOTS, torch.zeros(2, dtype=torch.int64, device=record.device)))
        self._storage[SLOTS].fill_(-1)
        for key, frame in frames.items():
            shape = (2 * self.max_size, *frame.shape[1:])
            self._frames[key] = torch.empty(shape, dtype=frame.dtype, device=self.device)

    def _check(self, data: TensorDictBase) -> tuple[str, ...]:
        """Names of the frames; raises a ``ValueError`` if the data do not match what is stored."""
        if data.ndim != 1:
            raise ValueError(
                f"data: batch size {list(data.shape)}; must be one dimension of transitions: give the buffer the "
                "transform NStep(..., frame_ids=True), or extend it with batch.reshape(-1)"
            )
        keys = set(data.keys(True, True))
        names = tuple(self._frames) or self.frame_keys
        names = names or tuple(key for key in DEFAULT_FRAME_KEYS if key in keys and ("next", key) in keys)
        ends = [*names, *(("next", key) for key in names)]
        missing = [key for key in ends if key not in keys]
        if missing or not names:
            raise ValueError(
                f"data: {missing or DEFAULT_FRAME_KEYS} missing among {sorted(keys, key=str)}; frame_keys must name "
                "entries that are present at the root and under 'next'"
            )
        if "steps_to_next_obs" in keys and FRAME_ID not in keys:
            raise ValueError("data: n-step transitions need frame_id; use NStep(..., frame_ids=True)")
        if not self.initialized:
            return names
        new, old = keys - {*ends, INDEX, FRAME_ID, ("next", FRAME_ID)}, set(self._storage.keys(True, True)) - {SLOTS}
        if new != old:
            raise ValueError(f"data: differ from the stored transitions in the keys {sorted(new ^ old, key=str)}")
        for key in ends:
            name = key if isinstance(key, str) else key[1]
            if name in self.embed:
                continue
            kept, given = self._frames[name], data[key]
            if given.shape[1:] != kept.shape[1:] or given.dtype != kept.dtype:
                raise ValueError(
                    f"data: {key} is {tuple(given.shape[1:])} {given.dtype}; must be {tuple(kept.shape[1:])} "
                    f"{kept.dtype} as the stored frames"
                )
        return names


def as_words(frames: Tensor) -> Tensor:
    """The same memory as rows of whole words, which torch copies faster than rows of bytes."""
    rows = frames.as_subclass(torch.Tensor).view(len(frames), frames.shape[1:].numel()).view(torch.uint8)
    for dtype in (torch.int64, torch.int32):
        if rows.shape[1] % dtype.itemsize == 0 and rows.storage_offset() % dtype.itemsize == 0:
            return rows.view(dtype)
    return rows


def _ids_by_content(starts: list[Tensor], ends: list[Tensor]) -> Tensor:
    """Negative ids of the frames of consecutive rows: equal where a row ends with the next row's first frame."""
    num = len(starts[0])
    is_same = torch.ones(num - 1, dtype=torch.bool)
    for start, end in zip(starts, ends, strict=True):
        is_same &= (as_words(end[:-1].contiguous()) == as_words(start[1:].contiguous())).all(1).cpu()
    start_id = 2 * torch.arange(num)
    end_id = start_id + 1
    end_id[:-1] += is_same
    return -1 - torch.cat([start_id, end_id])


def _last_of_each(index: Tensor) -> Tensor:
    """Positions in ``index`` of the last occurrence of every value, in order."""
    value, inverse = torch.unique(index, return_inverse=True)
    if len(value) == len(index):
        return torch.arange(len(index))
    last = torch.zeros_like(value).scatter_reduce(0, inverse, torch.arange(len(index)), "amax")
    return last.sort().values
