"""A watchdog over worker processes: work in a thread that fails when they hang or die."""

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

from tm_torchrl.collectors.worker_env import Channel

POLL_S = 0.05
LONGEST_LOOK_S = 1.0  # a longer gap between two looks does not count: the trainer itself was stopped or starved
TIME_TO_ANSWER_S = 0.3
TIME_TO_RAISE_S = 1.5  # the work may notice by itself that a process has ended, and say why


class WorkerFailed(Exception):
    """A worker raised, died or hung."""


class WatchedFuture(Future):
    """The result of work in a thread; waiting for it fails when the workers hang or die.

    Args:
        work: Runs in the thread; raises if a worker fails.
        channels: Channels of the workers, whose heartbeats are watched.
        processes: Returns the workers' processes.
        timeout_s: How long all heartbeats together may stand still.
        what: What is expected of the workers, for the message.
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

        def run() -> None:
            try:
                self.set_result(work())
            except BaseException as error:
                self.set_exception(error)

        threading.Thread(target=run, daemon=True).start()

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result; if workers raise, die or hang, end them all and raise ``WorkerFailed``."""
        beats, looked, still_s, ended_s = self._beats(), time.monotonic(), 0.0, 0.0
        while True:
            try:
                return super().result(POLL_S)
            except NotYet:
                pass
            except Exception as error:
                raise WorkerFailed(f"collection failed: {self._ended() or error}") from error
            now, before = time.monotonic(), beats
            gone_s = min(now - looked, LONGEST_LOOK_S)
            looked, beats = now, self._beats()
            still_s += gone_s
            ended_s += gone_s if self._ended() else 0.0
            if ended_s > TIME_TO_RAISE_S:
                ended = self._ended()
                self._end_workers()
                raise WorkerFailed(f"collection failed: {ended}")
            if beats != before:
                still_s = 0.0
            elif still_s > self.timeout_s:
                self._end_workers()
                who = "one" if len(self.channels) > 1 else f"worker {self.channels[0].worker}"
                limit = " (collector.hang_timeout_s sets the limit)" if self.what == "step" else ""
                raise WorkerFailed(
                    f"no worker made a {self.what} for {self.timeout_s:g} s: {who} hangs or was stopped{limit}"
                )

    def _beats(self) -> list[int]:
        return [channel.num_steps() for channel in self.channels]

    def _ended(self) -> str:
        """Text that says which processes have ended; empty if none has."""
        ended = []
        for channel, process in zip(self.channels, list(self.processes()), strict=False):
            with contextlib.suppress(ValueError):  # TorchRL has closed those that it ended itself
                if process.exitcode is not None:
                    ended.append(f"worker {channel.worker} ended (exit code {process.exitcode})")
        return ", ".join(ended)

    def _end_workers(self) -> None:
        """Let the workers write stack traces where the system has SIGUSR1, then kill them."""
        processes = self.processes()
        if hasattr(signal, "SIGUSR1"):
            for process in processes:
                with contextlib.suppress(OSError, TypeError, ValueError):
                    os.kill(process.pid, signal.SIGUSR1)
            time.sleep(TIME_TO_ANSWER_S)
        for process in processes:
            with contextlib.suppress(OSError, AttributeError, ValueError):
                process.kill()
