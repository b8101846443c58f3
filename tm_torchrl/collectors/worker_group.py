"""A group of worker processes that drive in step with each other, under one of TorchRL's collectors.

Shapes: W workers, N lanes of the whole collection, T steps of a batch.
"""

from __future__ import annotations

import contextlib
import copy
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import resource_sharer, resource_tracker
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.collectors import Collector, MultiSyncCollector
from torchrl.envs import EnvBase

from tm_torchrl.collectors.watchdog import POLL_S, WatchedFuture, WorkerFailed
from tm_torchrl.collectors.worker_env import ENDING_SIGNALS, Channel, WorkerEnvFunction, to_bytes
from tm_torchrl.modules.carried import carried_keys

START_TIMEOUT_S = 300.0  # processes start, and the simulator's kernels are built on their first use
STOP_TIMEOUT_S = 5.0

Outcome: TypeAlias = "TensorDictBase | Exception"


class WorkerGroup:
    """Drives batches of its own lanes, one whenever it is asked.

    The result is put into ``finished`` with the group itself: a batch ``[lanes, T]``, or ``WorkerFailed``. Asked
    again after a failure, it ends what is left of its workers and starts new ones, all in the background.

    Args:
        make_env: makes the environment of each worker.
        channels: to the workers.
        policy: acts; workers get copies.
        in_workers: whether there are worker processes; if not, ``drive`` drives in the caller's thread.
        lanes: of the whole collection, those that are this group's.
        num_steps: of a batch.
        device: of the policy and the batches.
        seed: of the workers' random generators.
        hang_timeout_s: how long a worker may take over one step.
        finished: where batches and failures go.
    """

    def __init__(
        self,
        make_env: Sequence[Callable[[], EnvBase]],
        channels: Sequence[Channel],
        policy: TensorDictModuleBase,
        *,
        in_workers: bool,
        lanes: range,
        num_steps: int,
        device: torch.device,
        seed: int,
        hang_timeout_s: float,
        finished: SimpleQueue[tuple[WorkerGroup, Outcome]],
    ) -> None:
        self.make_env, self.channels, self.policy = list(make_env), list(channels), policy
        self.in_workers = in_workers
        self.lanes = lanes
        self._frames = [np.memmap(channel.frames, np.int64, mode="w+", shape=(1,)) for channel in channels]
        self.num_steps = num_steps
        self.device = device
        self.seed = seed
        self.hang_timeout_s = hang_timeout_s
        self.finished = finished
        self.states: list[Tensor | None] = [None] * len(self.make_env)  # to start from
        self.collector: Any = None
        self.num_batches = 0
        self.num_restarts = 0
        self.is_asked = False  # whether an outcome is to come, or lies in ``finished``
        self._iterator: Iterator[TensorDictBase] | None = None
        self._acting: TensorDictModuleBase | None = None
        self._has_failed = False
        self._is_starting = False
        self._is_closed = False
        self._num_threads = torch.get_num_threads()

    def ask(self, weights: Mapping[str, Tensor], *, num_frames: int = 0) -> None:
        """Drive a batch with these weights, in the background; rewards on schedules are those of ``num_frames``."""
        self._tell_frames(num_frames)
        if self._acting is None or self._has_failed:
            self._acting = copy.deepcopy(self.policy)
        self._acting.load_state_dict(weights)
        self.is_asked = True
        threading.Thread(target=self._answer, daemon=True).start()

    def drive(self, *, num_frames: int = 0) -> TensorDictBase:
        """Drive a batch here and now, in this process; raises ``WorkerFailed``."""
        self._tell_frames(num_frames)
        if self._has_failed:
            self._begin_anew()
        if self.collector is None:
            self._start()
        try:
            batch = self._next()
        except Exception as error:
            self._has_failed = True
            raise WorkerFailed(f"the environment raised {type(error).__name__}: {error}") from error
        self.num_batches += 1
        return batch

    def _tell_frames(self, num_frames: int) -> None:
        for frames in self._frames:
            frames[0] = num_frames

    def tracebacks(self) -> str:
        """What the workers wrote of their ends."""
        texts = [(channel.worker, channel.traceback()) for channel in self.channels]
        return "\n".join(f"worker {worker}:\n{text}" for worker, text in texts if text)

    def processes(self) -> list[Any]:
        """Of the workers that run, or are about to."""
        return list(getattr(self.collector, "procs", None) or [])

    def read_states(self) -> list[Tensor] | None:
        """At the end of the last batch, of every environment; ``None`` if one cannot be continued."""
        if self.collector is None or self._has_failed:
            return None
        if not self.in_workers:
            env = self.collector.env
            return [to_bytes(env.state())] if env.can_be_continued() else None
        if not all(channel.state.exists() for channel in self.channels):
            return None
        return [channel.read_state() for channel in self.channels]

    def close(self) -> None:
        """End all workers, those that are just being started too; never raises."""
        self._is_closed = True
        end = time.monotonic() + STOP_TIMEOUT_S
        while self._is_starting and time.monotonic() < end:
            _kill(self.processes())
            time.sleep(POLL_S)
        self._stop()

    # ------------------------------------------------------------------ in the background

    def _answer(self) -> None:
        """Runs in a thread of its own; whatever happens, something is put into ``finished``."""
        outcome: Outcome
        try:
            if self._has_failed:
                self._begin_anew()
            if self.collector is None:
                self._start()
            outcome = self._watched(self._next_of_workers, self.hang_timeout_s, "step")
            self.num_batches += 1
        except Exception as error:
            outcome = error
        self._has_failed = isinstance(outcome, Exception)
        self.finished.put((self, outcome))

    def _begin_anew(self) -> None:
        self._stop()
        self.states = [None] * len(self.make_env)
        self.num_restarts += 1
        self._has_failed = False

    def _watched(self, work: Callable[[], Any], timeout_s: float, what: str) -> Any:
        watched = WatchedFuture(work, channels=self.channels, processes=self.processes, timeout_s=timeout_s, what=what)
        return watched.result()

    def _next_of_workers(self) -> TensorDictBase:
        self.collector.update_policy_weights_()
        return self._next()

    def _next(self) -> TensorDictBase:
        """``[lanes, T]``, the workers' lanes one after the other, not shared with any worker."""
        assert self._iterator is not None
        batch = next(self._iterator)
        flat = batch.reshape(-1, batch.shape[-1]) if batch.ndim != 2 else batch
        return flat.clone()

    # ------------------------------------------------------------------ begin and end

    def _start(self) -> None:
        functions = []
        for make, channel, state in zip(self.make_env, self.channels, self.states, strict=True):
            channel.trace.unlink(missing_ok=True)
            channel.state.unlink(missing_ok=True)
            functions.append(
                WorkerEnvFunction(
                    make,
                    channel,
                    steps_per_batch=self.num_steps if self.in_workers else None,
                    seed=self._seed_of(channel.worker) if self.in_workers else None,
                    state=state,
                    is_worker=self.in_workers,
                    carried_keys=carried_keys(self.policy),
                )
            )
        options: dict[str, Any] = {
            "frames_per_batch": self.num_steps * len(self.lanes),
            "total_frames": -1,
            "split_trajs": False,
            "auto_register_policy_transforms": False,
            "traj_format": "padded",
            "trust_policy": True,
            "device": self.device,
        }
        if not self.in_workers:
            # A collector tries a policy out if it does not tell its outputs; the run's random numbers must not notice.
            with torch.random.fork_rng(devices=[]):
                self.collector = Collector(functions[0], self.policy, track_traj_ids=False, **options)
                self._iterator = iter(self.collector)
            return
        self._is_starting = True
        try:
            if self._is_closed:
                raise WorkerFailed("the collector was shut down")
            self._watched(lambda: self._make_workers(functions, options), START_TIMEOUT_S, "start")
        finally:
            self._is_starting = False

    def _seed_of(self, worker: int) -> int:
        return self.seed + 1_000_003 * (worker + 1) + 7919 * self.num_restarts

    def _make_workers(self, functions: list[WorkerEnvFunction], options: dict[str, Any]) -> None:
        hide_broken_handovers()
        if hasattr(signal, "pthread_sigmask"):  # not on Windows; processes inherit it, so Ctrl-C spares young workers
            resource_tracker.ensure_running()  # which would unblock them in this thread
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        _Workers(
            functions,
            self._acting,
            show=self._show,
            num_threads=self._num_threads,  # of this process; TorchRL sets them
            num_sub_threads=1,
            cat_results="stack",
            update_at_each_batch=False,
            **options,
        )
        self._iterator = iter(self.collector)

    def _show(self, collector: MultiSyncCollector) -> None:
        self.collector = collector

    def _stop(self) -> None:
        collector, processes = self.collector, self.processes()
        self.collector, self._iterator = None, None
        if collector is None:
            return
        ender = threading.Thread(target=_shut_down, args=(collector, self._num_threads), daemon=True)
        ender.start()
        ender.join(STOP_TIMEOUT_S)
        _kill(processes)
        for process in processes:
            with contextlib.suppress(ValueError, OSError, AssertionError):
                process.join(2.0)
        ender.join(STOP_TIMEOUT_S)  # if it waited for them


class _Workers(MultiSyncCollector):
    """Shows itself before its processes start, so that they can be ended while they do."""

    def __init__(self, *arguments: Any, show: Callable[[MultiSyncCollector], None], **options: Any) -> None:
        show(self)
        super().__init__(*arguments, **options)


def hide_broken_handovers() -> None:
    """Nothing is printed any more where a worker ends while this process hands it a tensor's memory.

    A thread of ``multiprocessing`` waits for workers to fetch it, and would print a traceback of each one that ends
    meanwhile. That a worker ended is reported by the group.
    """
    if not isinstance(sys.excepthook, _WithoutHandovers):
        sys.excepthook = _WithoutHandovers(sys.excepthook)


class _WithoutHandovers:
    """What prints errors that nobody caught, but for those."""

    def __init__(self, before: Callable[..., Any]) -> None:
        self.before = before

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        is_handover = trace is not None and trace.tb_frame.f_code.co_filename == resource_sharer.__file__
        if not (is_handover and isinstance(error, (ConnectionError, EOFError))):
            self.before(kind, error, trace)


def _kill(processes: Sequence[Any]) -> None:
    for process in processes:
        with contextlib.suppress(ValueError, OSError, AttributeError):
            process.kill()


def _shut_down(collector: Any, num_threads: int) -> None:
    with contextlib.suppress(Exception):  # TorchRL's collectors raise when they are shut down after a failure
        collector.shutdown()
    # TorchRL leaves these to the end of the interpreter, where they start a thread that never comes if none ran before.
    for sender in (getattr(collector, "_weight_sync_schemes", None) or {}).values():
        with contextlib.suppress(Exception):
            sender.shutdown()
    torch.set_num_threads(num_threads)  # which TorchRL raised
