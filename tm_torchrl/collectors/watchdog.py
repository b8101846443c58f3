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

from tm_torchrl.collectors.worker_env import Channel

POLL_S = 0.05
LONGEST_LOOK_S = 1.0  # more between two looks is not the workers' time: the trainer itself was stopped or starved
TIME_TO_ANSWER_S = 0.3
TIME_TO_RAISE_S = 1.5  # for the work to notice by itself that a process has ended, and to say why


class WorkerFailed(Exception):
    """A worker raised, died or stood still."""


class WatchedFuture(Future):
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

        def run() -> None:
            try:
                self.set_result(work())
            except BaseException as error:
                self.set_exception(error)

        threading.Thread(target=run, daemon=True).start()

    def result(self, timeout: float | None = None) -> Any:
        """The result; raises ``WorkerFailed`` where the work raised, or workers ended or stood still, and ends them."""
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
        """Which processes are no more, in words; nothing if all are."""
        ended = []
        for channel, process in zip(self.channels, list(self.processes()), strict=False):
            with contextlib.suppress(ValueError):  # TorchRL has closed those that it ended itself
                if process.exitcode is not None:
                    ended.append(f"worker {channel.worker} ended (exit code {process.exitcode})")
        return ", ".join(ended)

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
