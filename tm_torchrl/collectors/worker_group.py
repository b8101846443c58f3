"""A group of worker processes that collect together, under one of TorchRL's collectors.

Shapes: W workers, N lanes of the whole collection, T steps of a batch.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import resource_sharer
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

from tm_torchrl.collectors.processes import ending_signals_blocked, main_module_left_out, start_server
from tm_torchrl.collectors.watchdog import POLL_S, WatchedFuture, WorkerFailed
from tm_torchrl.collectors.worker_env import Channel, WorkerEnvFunction, to_bytes
from tm_torchrl.modules.carried import carried_keys

START_TIMEOUT_S = 300.0  # processes start, and the simulator's kernels are built on their first use
STOP_TIMEOUT_S = 5.0

Outcome: TypeAlias = "TensorDictBase | Exception"


class WorkerGroup:
    """Collects a batch of its own lanes at each request.

    The result is put into ``finished`` together with the group: a batch ``[lanes, T]``, or ``WorkerFailed``. A request
    after a failure ends what is left of the workers and starts new ones, all in the background.

    Args:
        make_env: Makes the environment of each worker.
        channels: Files shared with the workers.
        policy: Acts; workers get copies.
        in_workers: Whether there are worker processes; without them ``collect`` works in the caller's thread.
        lanes: This group's lanes among those of the whole collection.
        num_steps: Steps in a batch.
        device: Device of the policy and the batches.
        seed: Seeds the workers' random generators.
        hang_timeout_s: How long a worker may take for a step.
        finished: Receives batches and failures.
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
        self.is_requested = False  # whether an outcome is to come, or is in ``finished``
        self._iterator: Iterator[TensorDictBase] | None = None
        self._acting: TensorDictModuleBase | None = None
        self._has_failed = False
        self._is_starting = False
        self._is_closed = False
        self._num_threads = torch.get_num_threads()

    def request(self, weights: Mapping[str, Tensor], *, num_frames: int = 0) -> None:
        """Request a batch, collected in the background with these weights; ``num_frames`` sets rewards on schedules."""
        self._tell_frames(num_frames)
        if self._acting is None or self._has_failed:
            self._acting = copy.deepcopy(self.policy)
        self._acting.load_state_dict(weights)
        self.is_requested = True
        threading.Thread(target=self._answer, daemon=True).start()

    def start(self) -> None:
        """Start in this thread what has not been started yet."""
        if self.collector is None:
            self._start()

    def collect(self, *, num_frames: int = 0) -> TensorDictBase:
        """Collect a batch in this thread; raises ``WorkerFailed``."""
        self._tell_frames(num_frames)
        if self._has_failed:
            self._restart()
        self.start()
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
        """The tracebacks that the workers wrote."""
        texts = [(channel.worker, channel.traceback()) for channel in self.channels]
        return "\n".join(f"worker {worker}:\n{text}" for worker, text in texts if text)

    def processes(self) -> list[Any]:
        """The processes of the workers that run or are starting."""
        return list(getattr(self.collector, "procs", None) or [])

    def read_states(self) -> list[Tensor] | None:
        """The state of every environment at the end of the last batch; ``None`` if one cannot be continued."""
        if self.collector is None or self._has_failed:
            return None
        if not self.in_workers:
            env = self.collector.env
            return [to_bytes(env.state())] if env.can_be_continued() else None
        if not all(channel.state.exists() for channel in self.channels):
            return None
        return [channel.read_state() for channel in self.channels]

    def close(self) -> None:
        """End all workers, including those that are starting; never raises."""
        self._is_closed = True
        end = time.monotonic() + STOP_TIMEOUT_S
        while self._is_starting and time.monotonic() < end:
            _kill(self.processes())
            time.sleep(POLL_S)
        self._stop()

    # ------------------------------------------------------------------ in the background

    def _answer(self) -> None:
        """Run a request in a thread of its own; whatever happens, something is put into ``finished``."""
        outcome: Outcome
        try:
            if self._has_failed:
                self._restart()
            if self.collector is None:
                self._start()
            outcome = self._watched(self._next_of_workers, self.hang_timeout_s, "step")
            self.num_batches += 1
        except Exception as error:
            outcome = error
        self._has_failed = isinstance(outcome, Exception)
        self.finished.put((self, outcome))

    def _restart(self) -> None:
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
        """A batch ``[lanes, T]``, the workers' lanes one after the other, in memory of its own."""
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
            # A collector runs a policy once to learn its outputs; this must not change the run's random numbers.
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
        start_server()
        with ending_signals_blocked(), main_module_left_out(self.policy):
            _Workers(
                functions,
                self._acting,
                show=self._show,
                num_threads=self._num_threads,  # of this process; TorchRL changes it
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
        ender.join(STOP_TIMEOUT_S)  # it may have waited for the processes


class _Workers(MultiSyncCollector):
    """Passes itself on before its processes start, so that they can be ended while they start."""

    def __init__(self, *arguments: Any, show: Callable[[MultiSyncCollector], None], **options: Any) -> None:
        show(self)
        super().__init__(*arguments, **options)


def hide_broken_handovers() -> None:
    """Silence an error of ``multiprocessing`` for workers that end while this process hands them a tensor's memory.

    A thread of ``multiprocessing`` waits for the worker, and would print a traceback. The group reports that a worker
    ended.
    """
    if not isinstance(sys.excepthook, _WithoutHandovers):
        sys.excepthook = _WithoutHandovers(sys.excepthook)


class _WithoutHandovers:
    """An exception hook that leaves those errors out."""

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
    senders = list((getattr(collector, "_weight_sync_schemes", None) or {}).values())
    for sender in senders:
        # A thread waits for ever for a worker that has ended to say that it has the weights, and would keep the memory
        # and the open files of all workers.
        for answers in (getattr(sender, "_ack_queues", None) or {}).values():
            with contextlib.suppress(Exception):
                answers.put("updated")
    time.sleep(POLL_S)  # for that thread to read it before its queue is closed
    with contextlib.suppress(Exception):  # TorchRL's collectors may raise when they are shut down after a failure
        collector.shutdown()
    # TorchRL shuts these down when the interpreter ends, which can hang.
    for sender in senders:
        with contextlib.suppress(Exception):
            sender.shutdown()
    torch.set_num_threads(num_threads)  # TorchRL has changed it
