"""The shards of a replay as the learner sees them: started, told what to do, and replaced when they are lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from tm_torchrl.data.sharded.shard import ShardState

START_TIMEOUT_S = 300.0  # a process starts somewhere
LOSSES_WITHIN_S = 600.0
MAX_LOSSES = 20  # of shards within that time


class ReplayLostError(RuntimeError):
    """No shard is left, or too many were lost."""


class ShardLostError(Exception):
    """A shard has ended or cannot be reached; the message says what has happened."""


class ShardHandle(Protocol):
    """A ``ReplayShard`` elsewhere."""

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """What a method returns; calls are answered in order. A lost shard raises ``ShardLostError``."""
        ...

    def missing(self) -> str:
        """Why it may not start: what it needs, and what there is."""
        ...

    def kill(self) -> None:
        """End it, whatever it does; never raises."""
        ...


@dataclass(eq=False)
class Shard:
    """A shard, and what the learner knows of it.

    Args:
        number: Its place; the shard that replaces it has the same.
        handle: Calls it.
        started: Its first state.
        started_at: When it was asked for.
    """

    number: int
    handle: ShardHandle
    started: Future[ShardState]
    started_at: float
    known: ShardState | None = None  # None while it starts
    pending: Future[ShardState] | None = None  # the answer to a write or an update

    @property
    def state(self) -> ShardState:
        """What it holds as far as is known."""
        return self.known or ShardState()


class Shards:
    """Every wait for a shard ends in time; one that has ended or does not answer is replaced by an empty one.

    Args:
        start: Starts a shard.
        num: Number of shards.
        hang_timeout_s: How long a shard may take to answer.
        log: Takes messages.
    """

    def __init__(
        self, start: Callable[[], ShardHandle], *, num: int, hang_timeout_s: float, log: Callable[[str], None]
    ) -> None:
        self.start, self.hang_timeout_s, self.log = start, hang_timeout_s, log
        self.num_lost = 0  # transitions
        self._losses: deque[float] = deque()
        self.all = [self._new(number) for number in range(num)]

    def close(self) -> None:
        """End all; never raises."""
        for shard in self.all:
            shard.handle.kill()

    def started(self, number: int | None = None) -> list[Shard]:
        """The shards that have started; waits for the first one, or for the one of a number."""
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            self.look_at_starts()
            found = [shard for shard in self.all if shard.known is not None]
            if found and (number is None or self.all[number] in found):
                return found
            if time.monotonic() > end:
                raise ReplayLostError(
                    f"no shard of the replay has started within {START_TIMEOUT_S:g} s: {self.all[0].handle.missing()}"
                )
            wait([shard.started for shard in self.all if shard.known is None], 0.5, return_when=FIRST_COMPLETED)

    def look_at_starts(self) -> None:
        """Let shards that have started take part; those that do not start are replaced."""
        for shard in [shard for shard in self.all if shard.known is None]:
            if shard.started.done():
                shard.known = self.answers({shard: shard.started}).get(shard)
            elif time.monotonic() - shard.started_at > START_TIMEOUT_S:
                self._replace(shard, f"has not started within {START_TIMEOUT_S:g} s: {shard.handle.missing()}")

    def settled(self, shards: Sequence[Shard] | None = None) -> list[Shard]:
        """Those, by default of all, that have done what they were told, so that their states are the present ones."""
        shards = [shard for shard in self.all if shards is None or shard in shards]  # without those replaced before
        pending = {shard: shard.pending for shard in shards if shard.pending is not None}
        for shard, state in self.answers(pending).items():
            shard.known, shard.pending = state, None
            if state.problem:
                self.log(f"shard {shard.number} of the replay could not read a worker's batch: {state.problem}")
        return [shard for shard in shards if shard in self.all and shard.known is not None]

    def answers(self, asked: Mapping[Shard, Future[Any]], *, timeout_s: float | None = None) -> dict[Shard, Any]:
        """What was answered in time; shards without an answer are replaced.

        Args:
            asked: By shard.
            timeout_s: By default ``hang_timeout_s``.
        """
        timeout_s = self.hang_timeout_s if timeout_s is None else timeout_s
        wait(list(asked.values()), timeout=timeout_s)
        found = {}
        for shard, future in asked.items():
            if not future.done():
                self._replace(shard, f"has not answered for {timeout_s:g} s")
                continue
            try:
                found[shard] = future.result()
            except ShardLostError as error:
                self._replace(shard, str(error))
        return found

    def ask(self, number: int, method: str, *arguments: Any, timeout_s: float) -> Any:
        """What a shard answers, which may take long; raises ``OSError`` if it does not.

        Args:
            number: Of the shard.
            method: Of ``ReplayShard``; for ``restore`` a shard that starts is waited for.
            arguments: Of the method.
            timeout_s: For the answer.
        """
        if method == "restore":
            self.started(number)
        self.look_at_starts()
        for shard in self.settled([self.all[number]]):
            found = self.answers({shard: shard.handle.call(method, *arguments)}, timeout_s=timeout_s)
            if shard in found:
                shard.pending = shard.handle.call("state")
                self.settled([shard])
                return found[shard]
        raise OSError(f"shard {number} of the replay does not answer")

    def _new(self, number: int) -> Shard:
        handle = self.start()
        return Shard(number, handle, handle.call("state"), time.monotonic())

    def _replace(self, shard: Shard, why: str) -> None:
        shard.handle.kill()
        self.num_lost += shard.state.num
        now = time.monotonic()
        self._losses.append(now)
        while self._losses[0] < now - LOSSES_WITHIN_S:
            self._losses.popleft()
        what = f"shard {shard.number} of the replay {why}"
        if len(self._losses) > MAX_LOSSES:
            raise ReplayLostError(
                f"{len(self._losses)} shards were lost within {LOSSES_WITHIN_S / 60:g} minutes; the last time: {what}"
            )
        self.log(f"{what}: its {shard.state.num:,} transitions are lost. An empty one takes its place.")
        self.all[shard.number] = self._new(shard.number)
