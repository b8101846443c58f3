"""``FrameSlots``: which slot of a frame store holds which frame, and which slots are free."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tm_torchrl.data.steps.n_step import FRAMES_PER_STREAM


class FrameSlots:
    """Counts how many transitions use each slot; a slot is free when none does.

    The state is the number of uses per slot, a stack of free slots, and a serial number that each slot gets when it is
    filled. The slots of recent frames are remembered with their serial numbers, and an entry is used only if the slot
    still has that number: an outdated entry costs a copy and never gives a wrong image.

    Args:
        num_slots: Number of slots; twice the number of transitions always suffices.

    Examples:
        >>> slots = FrameSlots(8)
        >>> slots.place(torch.tensor([0, 1, 1, 2]), released=torch.tensor([], dtype=torch.int64))
        (tensor([0, 1, 1, 2]), tensor([0, 1, 2]), tensor([0, 1, 3]))
        >>> slots.place(torch.tensor([2, 3]), released=torch.tensor([0, 1]))  # frame 2 has a slot, frame 3 gets 0
        (tensor([2, 0]), tensor([0]), tensor([1]))
        >>> slots.num_used
        3
    """

    def __init__(self, num_slots: int) -> None:
        self.uses = torch.zeros(num_slots, dtype=torch.int32)
        self._serial = torch.zeros(num_slots, dtype=torch.int64)
        self._free = torch.zeros(num_slots, dtype=torch.int32)  # a stack
        self._counters = torch.zeros(3, dtype=torch.int64)  # height of the stack, slots ever used, serial numbers given
        self._recent = _nothing()  # sorted ids, their slots, the slots' serial numbers

    @property
    def num_used(self) -> int:
        """Number of slots that hold a frame."""
        return int(self._counters[1] - self._counters[0])

    @property
    def num_touched(self) -> int:
        """Number of slots that ever held a frame; the others have used no memory yet."""
        return int(self._counters[1])

    def place(self, ids: Tensor, *, released: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give every frame a slot; frames with equal ids share one.

        Args:
            ids: int64 ``[2K]``, the frames before K transitions, then the frames after them. Ids from 0 up are also
                looked for among the frames that were placed earlier; negative ids only within this call.
            released: int64 ``[R]``, a slot for each use that has ended.

        Returns:
            The slot of every frame ``[2K]``, the slots to be filled ``[M]``, and the rows of ``ids`` to fill them from.
        """
        frame, inverse = torch.unique(ids, return_inverse=True)
        num_uses = torch.bincount(inverse, minlength=len(frame)).to(torch.int32)
        slot = self._find(frame)
        is_known = slot >= 0
        self.uses.index_add_(0, slot[is_known], num_uses[is_known])
        self._release(released)
        is_new = ~is_known
        filled = self._allocate(int(is_new.sum()))
        slot[is_new] = filled
        self.uses[filled] = num_uses[is_new]
        row = torch.full_like(frame, len(ids)).scatter_reduce(0, inverse, torch.arange(len(ids)), "amin")
        self._remember(ids[: len(ids) // 2], frame, slot)
        return slot[inverse], filled, row[is_new]

    def clear(self) -> None:
        """Free every slot."""
        self.uses.zero_()
        self._counters[:2] = 0
        self._recent = _nothing()

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the uses and the free slots."""
        num_free, num_touched, _ = self._counters.tolist()
        return {"uses": self.uses[:num_touched].clone(), "free": self._free[:num_free].clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load uses and free slots; recent frames are forgotten."""
        uses, free = state["uses"], state["free"]
        self.clear()
        self.uses[: len(uses)] = uses
        self._free[: len(free)] = free
        self._counters[0], self._counters[1] = len(free), len(uses)
        self._stamp(torch.arange(len(uses)))

    def __getstate__(self) -> dict[str, Any]:
        """Without the recent frames, whose ids mean nothing in another process."""
        return {**self.__dict__, "_recent": _nothing()}

    def _find(self, frame: Tensor) -> Tensor:
        known, slot, serial = self._recent
        if not len(known):
            return torch.full_like(frame, -1)
        at = torch.searchsorted(known, frame).clamp(max=len(known) - 1)
        found = slot[at]
        is_here = (known[at] == frame) & self._holds(found, serial[at])
        return torch.where(is_here, found, -1)

    def _holds(self, slot: Tensor, serial: Tensor) -> Tensor:
        return (self._serial[slot] == serial) & (self.uses[slot] > 0)

    def _release(self, slot: Tensor) -> None:
        self.uses.index_add_(0, slot, torch.full((len(slot),), -1, dtype=torch.int32))
        slot = torch.unique(slot)
        slot = slot[self.uses[slot] == 0]
        height = int(self._counters[0])
        self._free[height : height + len(slot)] = slot.to(torch.int32)
        self._counters[0] += len(slot)

    def _allocate(self, num: int) -> Tensor:
        height, touched, _ = self._counters.tolist()
        reused = min(num, height)
        end = touched + num - reused
        if end > len(self.uses):
            raise RuntimeError(
                f"{num} new frames, {len(self.uses) - touched + height} free slots: uses were miscounted"
            )
        slot = torch.cat([self._free[height - reused : height].to(torch.int64).flip(0), torch.arange(touched, end)])
        self._counters[0], self._counters[1] = height - reused, end
        self._stamp(slot)
        return slot

    def _stamp(self, slot: Tensor) -> None:
        serial = int(self._counters[2])
        self._serial[slot] = torch.arange(serial + 1, serial + 1 + len(slot))
        self._counters[2] += len(slot)

    def _remember(self, start_ids: Tensor, frame: Tensor, slot: Tensor) -> None:
        """Keep the frames that later transitions may use: ids above those that their stream has started from."""
        start_ids = start_ids[start_ids >= 0]
        if not len(start_ids):
            return
        stream, inverse = torch.unique(start_ids // FRAMES_PER_STREAM, return_inverse=True)
        newest = torch.zeros_like(stream).scatter_reduce(0, inverse, start_ids, "amax")

        def is_ahead(ids: Tensor) -> Tensor:
            at = torch.searchsorted(stream, ids // FRAMES_PER_STREAM).clamp(max=len(stream) - 1)
            return (stream[at] != ids // FRAMES_PER_STREAM) | (ids > newest[at])

        ahead = is_ahead(frame)
        frame, slot = frame[ahead], slot[ahead]
        known, known_slot, known_serial = self._recent
        kept = is_ahead(known) & ~torch.isin(known, frame) & self._holds(known_slot, known_serial)
        known = torch.cat([known[kept], frame])
        known, order = known.sort()
        self._recent = (
            known,
            torch.cat([known_slot[kept], slot])[order],
            torch.cat([known_serial[kept], self._serial[slot]])[order],
        )


def _nothing() -> tuple[Tensor, Tensor, Tensor]:
    nothing = torch.zeros(0, dtype=torch.int64)
    return nothing, nothing, nothing
