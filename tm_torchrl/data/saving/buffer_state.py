"""A replay buffer's state apart from its rows: priorities, cursor, pending steps, generators, batches sampled ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchrl.data import ReplayBuffer

from tm_torchrl.data.storage.frame_store import FrameStorage
from tm_torchrl.data.storage.prioritized import TensorDictPrioritizedReplayBuffer

_SAMPLERS = ("_sampler", "_prioritized_sampler")
_CAUGHT_UP = "_prioritized_sampler_write_count"  # rows that are in the tree of a learner beside writers


def state_without_rows(buffer: ReplayBuffer, ahead: dict[str, Any]) -> dict[str, Any]:
    """``buffer.state_dict()`` but for the storage.

    Args:
        buffer: whose locks the caller holds.
        ahead: what ``buffer._capture_prefetch_state()`` yields, which locks it.

    Examples:
        >>> from tm_torchrl.data import make_replay_buffer
        >>> buffer = make_replay_buffer(capacity=9, batch_size=2)
        >>> with buffer._capture_prefetch_state() as ahead:
        ...     state = state_without_rows(buffer, ahead)
        >>> set(buffer.state_dict()) - set(state)
        {'_storage'}
    """
    state = {
        "_sampler": buffer.sampler.state_dict(),
        "_writer": buffer.writer.state_dict(),
        "_transforms": buffer._transform.state_dict(),
        "_batch_size": buffer._batch_size,
        "_consume_after_n_samples": buffer._consume_after_n_samples,
        "_rng": None if buffer._rng is None else (buffer._rng.get_state().clone(), str(buffer._rng.device)),
        "_prefetch_state": ahead,
    }
    if isinstance(buffer, TensorDictPrioritizedReplayBuffer) and not buffer._sync:
        state["_prioritized_sampler"] = buffer.prioritized_sampler.state_dict()
        state[_CAUGHT_UP] = buffer._prioritized_sampler_write_count
    return state


def load_state_without_rows(buffer: ReplayBuffer, state: dict[str, Any]) -> None:
    """Take over a state, with no rows in the storage yet; batches sampled ahead only if they are as large as ours.

    Args:
        buffer: to go on from the state.
        state: of a buffer of the same settings.
    """
    storage = buffer.storage
    if state["_batch_size"] != buffer._batch_size:
        state = {**state, "_batch_size": buffer._batch_size, "_prefetch_state": _nothing_ahead(state)}
    empty = {} if isinstance(storage, FrameStorage) else {"_storage": {}, "initialized": storage.initialized, "_len": 0}
    buffer.load_state_dict({**state, "_storage": empty})


def close_ranks(buffer: ReplayBuffer, state: dict[str, Any], positions: Sequence[int]) -> dict[str, Any]:
    """The state when of all rows some are left, which move to the storage's beginning.

    Args:
        buffer: whose state it will be.
        state: of the buffer that had all rows.
        positions: where the rows that are left stood, oldest first.
    """
    num, capacity = len(positions), buffer.storage.max_size
    kept = torch.tensor(positions, dtype=torch.int64)
    cursor, end = state["_writer"]["_cursor"], state["_writer"]["_write_count"]
    closed = {
        **state,
        "_writer": {"_cursor": num % capacity, "_write_count": num},
        "_prefetch_state": _nothing_ahead(state),
    }
    for name in _SAMPLERS:
        sampler = state.get(name)
        if sampler and "tree" in sampler:
            tree = torch.zeros_like(sampler["tree"])
            tree[:num] = sampler["tree"][kept]
            highest = sampler["max_priority"]
            closed[name] = {**sampler, "tree": tree, "max_priority": highest and [highest[0], 0]}
        elif sampler:
            closed[name] = buffer.sampler.state_dict()
    if _CAUGHT_UP in state:
        age = (cursor - 1 - kept) % capacity  # 0 for the newest row
        closed[_CAUGHT_UP] = int((age >= end - state[_CAUGHT_UP]).sum())
    return closed


def fresh_state(buffer: ReplayBuffer, num: int) -> dict[str, Any]:
    """The state of a buffer of ``num`` rows whose own state is lost: no priorities yet, the rest as it is here.

    Args:
        buffer: whose state it will be.
        num: rows, from the storage's beginning on.
    """
    state = state_without_rows(buffer, {"version": 1, "capacity": int(buffer._prefetch_cap), "queue": ()})
    state["_writer"] = {"_cursor": num % buffer.storage.max_size, "_write_count": num}
    for name in _SAMPLERS:
        sampler = state.get(name)
        if sampler and "tree" in sampler:
            state[name] = {**sampler, "tree": torch.zeros_like(sampler["tree"]), "max_priority": None}
    if _CAUGHT_UP in state:
        state[_CAUGHT_UP] = 0
    return state


def _nothing_ahead(state: dict[str, Any]) -> dict[str, Any]:
    return {**state["_prefetch_state"], "queue": ()}
