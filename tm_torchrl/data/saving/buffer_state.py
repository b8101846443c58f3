"""A replay buffer's state apart from its rows: priorities, cursor, pending steps, generator, prefetched batches."""

from __future__ import annotations

from typing import Any

from torchrl.data import ReplayBuffer

from tm_torchrl.data.storage.frame_store import FrameStorage


def state_without_rows(buffer: ReplayBuffer, prefetched: dict[str, Any]) -> dict[str, Any]:
    """``buffer.state_dict()`` without the storage.

    Args:
        buffer: The buffer, whose locks the caller holds.
        prefetched: What ``buffer._capture_prefetch_state()`` yields, which also locks the buffer.

    Examples:
        >>> from tm_torchrl.data import make_replay_buffer
        >>> buffer = make_replay_buffer(capacity=9, batch_size=2)
        >>> with buffer._capture_prefetch_state() as prefetched:
        ...     state = state_without_rows(buffer, prefetched)
        >>> set(buffer.state_dict()) - set(state)
        {'_storage'}
    """
    return {
        "_sampler": buffer.sampler.state_dict(),
        "_writer": buffer.writer.state_dict(),
        "_transforms": buffer._transform.state_dict(),
        "_batch_size": buffer._batch_size,
        "_consume_after_n_samples": buffer._consume_after_n_samples,
        "_rng": None if buffer._rng is None else (buffer._rng.get_state().clone(), str(buffer._rng.device)),
        "_prefetch_state": prefetched,
    }


def load_state_without_rows(buffer: ReplayBuffer, state: dict[str, Any]) -> None:
    """Load a state of a buffer with the same settings; the storage is left empty.

    Prefetched batches are dropped if this buffer's batch size is another.
    """
    storage = buffer.storage
    if state["_batch_size"] != buffer._batch_size:
        state = {**state, "_batch_size": buffer._batch_size, "_prefetch_state": _nothing_prefetched(state)}
    empty = {} if isinstance(storage, FrameStorage) else {"_storage": {}, "initialized": storage.initialized, "_len": 0}
    buffer.load_state_dict({**state, "_storage": empty})


def _nothing_prefetched(state: dict[str, Any]) -> dict[str, Any]:
    return {**state["_prefetch_state"], "queue": ()}
