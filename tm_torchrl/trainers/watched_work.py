"""Work in a thread that waits for worker processes, with a hand on their pulse."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any

from tm_torchrl.trainers.watched_env import Channel

POLL_S = 0.05
TIME_TO_ANSWER_S = 0.3


class WorkerFailed(Exception):
    """A worker raised, died or stood still."""


class WatchedWork(Future):
    """A result that comes from a thread; whoever waits for it notices workers that stand still.

    Args:
        work: runs in the thread; raises if a worker fails.
        channels: of the workers, whose heartbeats are looked at.
        processes: tells the workers' processes.
        timeout_s: how long all heartbeats may stand still together.
        what: is expected of the workers, for the message.
    """

    def __init__(
        self,
        work: Callable[[], Any],
        *,
        channels: Sequence[Channel],
        processes: Callable[[], Sequence[Any]],
        timeout_s: float,
        what: str,
    ) -> None:
        super().__init__()
        self.channels, self.processes, self.timeout_s, self.what = channels, processes, timeout_s, what
        self.begin = time.monotonic()

        def run() -> None:
            try:
                self.set_result(work())
            except BaseException as error:
                self.set_exception(error)

        threading.Thread(target=run, daemon=True).start()

    def result(self, timeout: float | None = None) -> Any:
        """The work's result; raises ``WorkerFailed`` where it raised or the workers stood still, which ends them."""
        beats, moved = self._beats(), time.monotonic()
        while True:
            try:
                return super().result(POLL_S)
            except NotYet:
                pass
            except Exception as error:
                raise WorkerFailed(f"collection failed: {error}") from error
            now = self._beats()
            if now != beats:
                beats, moved = now, time.monotonic()
            elif time.monotonic() - max(moved, self.begin) > self.timeout_s:
                self._end_workers()
                raise WorkerFailed(
                    f"no worker made a {self.what} for {self.timeout_s:g} s: one hangs or was stopped "
                    "(collector.hang_timeout_s sets the limit)"
                )

    def _beats(self) -> list[int]:
        return [channel.num_steps() for channel in self.channels]

    def _end_workers(self) -> None:
        """They write where they hang, where the system has a signal for it, and are killed."""
        processes = self.processes()
        if hasattr(signal, "SIGUSR1"):
            for process in processes:
                with contextlib.suppress(OSError, TypeError, ValueError):
                    os.kill(process.pid, signal.SIGUSR1)
            time.sleep(TIME_TO_ANSWER_S)
        for process in processes:
            with contextlib.suppress(OSError, AttributeError, ValueError):
                process.kill()
