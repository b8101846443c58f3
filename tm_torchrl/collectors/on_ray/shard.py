"""Shards of a replay as Ray actors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from tm_torchrl.collectors.on_ray.packing import Packed, packed_batch, unpacked
from tm_torchrl.collectors.on_ray.session import actor_options, missing
from tm_torchrl.collectors.on_ray.worker import reason
from tm_torchrl.data.sharded.shard import ReplayShard, ShardState
from tm_torchrl.data.sharded.shards import ShardLostError

READ_SHARE = 0.5  # of a shard's time to answer, for reading what a worker has written


class ShardActor:
    """A ``ReplayShard`` in a Ray worker process; what runs there.

    Args:
        make_shard: Makes it.
        read_timeout_s: For reading a batch from a worker's machine.
    """

    def __init__(self, make_shard: Callable[[], ReplayShard], read_timeout_s: float) -> None:
        torch.set_num_threads(1)
        self.shard, self.read_timeout_s = make_shard(), read_timeout_s

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method returns; tensors as bytes."""
        answer = getattr(self if method in ("write", "process") else self.shard, method)(*arguments)
        return packed_batch(answer) if isinstance(answer, TensorDictBase) else answer

    def write(self, rows: list[Any], priority: float) -> ShardState:
        """Store transitions; where their machine has ended or is cut off, say so, and keep what is here."""
        import ray

        try:
            found = ray.get(rows[0], timeout=self.read_timeout_s)
        except ray.exceptions.RayError as error:  # a reference in a list, so that the shard reads it, with a limit
            state = self.shard.state()
            return ShardState(state.num, state.total, state.least, problem=reason(error))
        return self.shard.write(as_rows(found), priority=priority)

    def process(self) -> int:
        """The number of this process."""
        return os.getpid()


class RayShard:
    """A shard in a Ray actor, as ``ShardedReplay`` calls it.

    Args:
        make_shard: Makes the shard, in the actor.
        resources: What the actor needs.
        hang_timeout_s: How long it may take to answer.
    """

    def __init__(
        self, make_shard: Callable[[], ReplayShard], resources: Mapping[str, float], hang_timeout_s: float
    ) -> None:
        import ray

        self.resources = {"CPU": 0.0, **resources}
        remote = ray.remote(**actor_options(self.resources))(ShardActor)
        self.actor = remote.remote(make_shard, READ_SHARE * hang_timeout_s)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """See ``ShardHandle.call``."""
        import ray

        given = [[value] if isinstance(value, ray.ObjectRef) else value for value in arguments]
        answer: Future[Any] = Future()
        self.actor.call.remote(method, *given).future().add_done_callback(partial(_pass_on, answer))
        return answer

    def missing(self) -> str:
        """See ``ShardHandle.missing``."""
        return missing(self.resources)

    def kill(self) -> None:
        """See ``ShardHandle.kill``."""
        import ray

        with contextlib.suppress(Exception):  # it has ended by itself
            ray.kill(self.actor)


def _pass_on(answer: Future[Any], found: Future[Any]) -> None:
    """Unpack tensors; Ray's errors become one line."""
    import ray

    try:
        value = found.result()
        answer.set_result(as_rows(value) if isinstance(value, dict) and _is_packed(value) else value)
    except ray.exceptions.RayTaskError as error:
        answer.set_exception(error.cause if isinstance(error.cause, Exception) else error)
    except ray.exceptions.RayError as error:
        answer.set_exception(ShardLostError(reason(error)))
    except Exception as error:
        answer.set_exception(error)


def _is_packed(value: dict[Any, Any]) -> bool:
    return all(isinstance(key, tuple) for key in value)


def as_rows(arrays: Packed[tuple[str, ...]]) -> TensorDict:
    """Transitions ``[K]``, in memory of their own."""
    found = unpacked(arrays)
    rows = TensorDict({}, [len(next(iter(found.values())))])
    for key, value in found.items():
        rows.set(key, value)
    return rows
