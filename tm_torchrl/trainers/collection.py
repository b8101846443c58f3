"""Supervised collection: TorchRL's collectors, watched, rebuilt when a worker fails, and continued bit for bit.

Shapes: W workers, N lanes of all workers together, T steps of a batch.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.collectors import Collector, MultiSyncCollector
from torchrl.envs import EnvBase

from tm_torchrl.data.plain_state import from_plain, to_plain
from tm_torchrl.trainers.nearest import nearest_name
from tm_torchrl.trainers.watched_env import Channel, WatchedEnvFunction, can_be_continued, to_bytes
from tm_torchrl.trainers.watched_work import WatchedWork, WorkerFailed

KINDS = {
    "single": "single",
    "multi_sync": "multi_sync",
    "Collector": "single",
    "SyncDataCollector": "single",  # this and the next: TorchRL's names before 0.14
    "MultiSyncDataCollector": "multi_sync",
    "MultiSyncCollector": "multi_sync",
}
START_TIMEOUT_S = 300.0  # processes start, and the simulator's kernels are built on their first use
RESTARTS_WITHIN_S = 600.0


class WorkerError(RuntimeError):
    """Workers failed too often; the message holds their traceback."""


def collector_kind(name: str) -> str:
    """The kind that a name means; TorchRL's class names, old and new, are understood.

    >>> collector_kind("MultiSyncDataCollector")
    'multi_sync'
    """
    if name not in KINDS:
        raise ValueError(f"collector.kind={name!r}: no such kind{nearest_name(name, KINDS)}")
    return KINDS[name]


class SupervisedCollector:
    """Batches of steps ``[N, T]``, for ever.

    A worker that raises, dies or stands still is reported with its own traceback, and all workers are started anew with
    the latest weights; the batch that was being driven is lost, everything else goes on. Trajectory numbers are given
    here, and differ before and after such a seam.

    Args:
        make_env: makes the environment of each worker; all of one size.
        policy: acts; workers get copies, which ``push_weights`` renews.
        kind: ``"single"`` (in this process) or ``"multi_sync"``.
        frames_per_batch: of all lanes together; rounded up to whole steps.
        overlap: with workers: drive the next batch while the caller has this one. Which weights drive which batch does
            not depend on timing.
        device: of the policy and the batches.
        seed: of the workers' random generators.
        hang_timeout_s: how long a worker may take over one step.
        max_restarts: within ten minutes.
        log: takes messages.

    Examples:
        >>> from functools import partial
        >>> from tm_torchrl.envs import TrackManiaEnv
        >>> from tm_torchrl.modules import MLPIQNetwork, QuantileActor
        >>> actor = QuantileActor(MLPIQNetwork(184, 12), spec=TrackManiaEnv(1).action_spec)
        >>> collector = SupervisedCollector([partial(TrackManiaEnv, 4)], actor, kind="single", frames_per_batch=8)
        >>> next(iter(collector)).shape
        torch.Size([4, 2])
        >>> collector.shutdown()
    """

    def __init__(
        self,
        make_env: Sequence[Callable[[], EnvBase]],
        policy: TensorDictModuleBase,
        *,
        kind: str = "multi_sync",
        frames_per_batch: int = 512,
        overlap: bool = False,
        device: torch.device | str = "cpu",
        seed: int = 0,
        hang_timeout_s: float = 10.0,
        max_restarts: int = 10,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.kind = collector_kind(kind)
        if not make_env or (self.kind == "single" and len(make_env) != 1):
            raise ValueError(f"make_env holds {len(make_env)} functions; {kind} needs {'1' if make_env else 'some'}")
        if frames_per_batch < 1:
            raise ValueError(f"frames_per_batch={frames_per_batch}: at least one frame makes a batch")
        if not hang_timeout_s > 0:
            raise ValueError(f"hang_timeout_s={hang_timeout_s}: must be positive")
        self.make_env = list(make_env)
        self.policy = policy
        self.frames_per_batch = frames_per_batch
        self.overlap = overlap and self.kind != "single"
        self.device = torch.device(device)
        self.seed = seed
        self.hang_timeout_s = hang_timeout_s
        self.max_restarts = max_restarts
        self.log = log
        self.num_restarts = 0
        self.wait_s = 0.0
        self._restart_times: deque[float] = deque()
        self._folder = Path(tempfile.mkdtemp(prefix="tm_torchrl_"))
        self._channels = [Channel(self._folder, worker) for worker in range(len(make_env))]
        self._frames = [np.memmap(channel.frames, np.int64, mode="w+", shape=(1,)) for channel in self._channels]
        self.num_frames = 0
        self._states: list[Tensor | None] = [None] * len(make_env)
        self._collector: Any = None
        self._iterator: Iterator[TensorDictBase] | None = None
        self._acting = policy
        self._pending: Future[TensorDictBase] | None = None
        self._delivered: TensorDictBase | None = None  # a restored batch that was in flight
        self._episode_of_lane: Tensor | None = None
        self._num_batches = 0

    def __iter__(self) -> Iterator[TensorDictBase]:
        return self

    def __next__(self) -> TensorDictBase:
        """The next batch; waits for workers, and rebuilds them if they fail."""
        begin = time.perf_counter()
        while True:
            try:
                if self._collector is None:
                    self._start()
                batch = self._next_batch()
                break
            except WorkerFailed as failure:
                self._rebuild(failure)
        self.wait_s += time.perf_counter() - begin
        self._num_batches += 1
        return self._numbered(batch)

    def push_weights(self) -> None:
        """The weights of now, and the exploration's numbers, drive the batches that are asked for from now on."""
        if self._acting is not self.policy:
            source = self.policy.state_dict()
            with torch.no_grad():
                for name, value in self._staged.items():
                    value.copy_(source[name])

    def set_frames(self, num_frames: int) -> None:
        """Frames played; rewards on schedules follow it in the batches that are asked for from now on."""
        self.num_frames = num_frames

    def shutdown(self) -> None:
        """End all workers; never raises."""
        self._stop_workers()
        shutil.rmtree(self._folder, ignore_errors=True)

    def state_dict(self) -> dict[str, Any]:
        """Environments, their generators, the batch in flight; what cannot be continued is left out."""
        if self._collector is None:
            return {}
        in_flight = None
        if self._pending is not None:
            in_flight = to_plain(self._pending.result().clone())
        states = self._read_states()
        return {
            "workers": states,
            "in_flight": in_flight,
            "episode_of_lane": self._episode_of_lane,
            "num_batches": self._num_batches,
            "staged": {} if self._acting is self.policy else {k: v.clone() for k, v in self._staged.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; before the first batch."""
        if self._collector is not None:
            raise RuntimeError("load_state_dict(): the workers run already; load before the first batch")
        if not state:
            return
        self._episode_of_lane = state["episode_of_lane"]
        self._num_batches = state["num_batches"]
        workers = state["workers"]
        if workers is None or len(workers) != len(self.make_env):
            self._seam()
            reason = "cannot be saved" if workers is None else f"had {len(workers)} workers"
            self.log(f"the environments of the saved run {reason}: new episodes begin")
            return
        self._states = list(workers)
        self._restored_staged = state["staged"]
        if state["in_flight"] is not None:
            self._delivered = from_plain(state["in_flight"])

    _restored_staged: dict[str, Tensor] | None = None

    # ------------------------------------------------------------------ workers

    def _start(self) -> None:
        in_workers = self.kind != "single"
        lanes = [_lanes_of(make) for make in self.make_env]
        if len(set(lanes)) > 1:
            raise ValueError(f"make_env: environments of {lanes} lanes; all workers need the same number")
        steps = -(-self.frames_per_batch // sum(lanes))
        functions = []
        for i, (make, channel) in enumerate(zip(self.make_env, self._channels, strict=True)):
            channel.trace.unlink(missing_ok=True)
            functions.append(
                WatchedEnvFunction(
                    make,
                    channel,
                    steps_per_batch=steps if in_workers else None,
                    seed=(self.seed + 1_000_003 * (i + 1) + 7919 * self.num_restarts) if in_workers else None,
                    state=self._states[i],
                    parent=os.getpid() if in_workers else None,
                )
            )
        options: dict[str, Any] = {
            "frames_per_batch": steps * sum(lanes),
            "total_frames": -1,
            "split_trajs": False,
            "auto_register_policy_transforms": False,
            "traj_format": "padded",
            "trust_policy": True,
            "device": self.device,
        }
        if not in_workers:
            self._collector = Collector(functions[0], self.policy, track_traj_ids=False, **options)
            self._iterator = iter(self._collector)
            return
        self._acting = copy.deepcopy(self.policy)
        if self._restored_staged:
            self._acting.load_state_dict(self._restored_staged)
            self._restored_staged = None
        self._staged = {name: value.detach().clone() for name, value in self._acting.state_dict().items()}
        self._in_background(lambda: self._make_workers(functions, options), START_TIMEOUT_S, "start").result()

    def _make_workers(self, functions: list[WatchedEnvFunction], options: dict[str, Any]) -> None:
        self._collector = MultiSyncCollector(
            functions,
            self._acting,
            num_threads=1,
            num_sub_threads=1,
            cat_results="stack",
            update_at_each_batch=False,
            **options,
        )
        self._iterator = iter(self._collector)

    def _next_batch(self) -> TensorDictBase:
        if self.kind == "single":
            self._tell_frames()
            try:
                return self._flat(next(self._iterator))  # type: ignore[arg-type]
            except Exception as error:
                raise WorkerFailed(f"the environment raised {type(error).__name__}: {error}") from error
        if not self.overlap:
            return self._request().result()
        pending = self._pending if self._pending is not None else None
        if pending is None and self._delivered is None:
            pending = self._request()
        if self._delivered is not None:
            batch, self._delivered = self._delivered, None
        else:
            assert pending is not None
            batch = pending.result()
        self._pending = None
        self._pending = self._request(wait=False)
        return batch

    def _request(self, *, wait: bool = True) -> Future[TensorDictBase]:
        """Ask the workers for a batch with the weights that were pushed last."""
        self._acting.load_state_dict(self._staged)
        self._collector.update_policy_weights_()
        self._tell_frames()
        return self._in_background(
            lambda: self._flat(next(self._iterator)),  # type: ignore[arg-type]
            self.hang_timeout_s,
            "step",
        )

    def _tell_frames(self) -> None:
        for frames in self._frames:
            frames[0] = self.num_frames

    def _flat(self, batch: TensorDictBase) -> TensorDictBase:
        """``[N, T]``, the workers' lanes one after the other, not shared with any worker."""
        flat = batch.reshape(-1, batch.shape[-1]) if batch.ndim != 2 else batch
        return flat.clone()

    def _in_background(self, work: Callable[[], Any], timeout_s: float, what: str) -> WatchedWork:
        return WatchedWork(work, channels=self._channels, processes=self._processes, timeout_s=timeout_s, what=what)

    def _processes(self) -> list[Any]:
        return list(getattr(self._collector, "procs", None) or [])

    def _stop_workers(self) -> None:
        collector, self._collector, self._iterator, self._pending = self._collector, None, None, None
        if collector is None:
            return
        processes = list(getattr(collector, "procs", None) or [])
        ender = threading.Thread(target=_shut_down, args=(collector,), daemon=True)
        ender.start()
        ender.join(5.0)
        for process in processes:
            try:
                if process.is_alive():
                    process.kill()
                    process.join(2.0)
            except (ValueError, OSError):
                continue

    def _rebuild(self, failure: WorkerFailed) -> None:
        begin = time.perf_counter()
        self._stop_workers()
        now = time.monotonic()
        self._restart_times.append(now)
        while self._restart_times[0] < now - RESTARTS_WITHIN_S:
            self._restart_times.popleft()
        words = "\n".join(
            f"worker {channel.worker}:\n{text}" for channel in self._channels if (text := channel.traceback())
        )
        message = f"{failure}" + (f"\n{words}" if words else "")
        if self._num_batches == 0:
            raise WorkerError(f"workers failed before their first batch: {message}") from failure
        if len(self._restart_times) > self.max_restarts:
            raise WorkerError(
                f"workers failed {len(self._restart_times)} times within {RESTARTS_WITHIN_S / 60:.0f} minutes; "
                f"the last time: {message}"
            ) from failure
        self.num_restarts += 1
        self._states = [None] * len(self.make_env)
        self._delivered = None
        self._seam()
        self.log(f"{message}\nThe workers are started anew ({time.perf_counter() - begin:.1f} s to stop them).")

    # ------------------------------------------------------------------ trajectories and state

    def _seam(self) -> None:
        if self._episode_of_lane is not None:
            self._episode_of_lane = self._episode_of_lane + 1

    def _numbered(self, batch: TensorDictBase) -> TensorDictBase:
        """Number the trajectories: lane + N * (episodes and seams of that lane before)."""
        num, steps = batch.shape
        done = batch["next", "done"].reshape(num, steps).to(torch.int64)
        if self._episode_of_lane is None:
            self._episode_of_lane = torch.zeros(num, dtype=torch.int64)
        before = self._episode_of_lane.to(done.device).unsqueeze(1) + done.cumsum(1) - done
        self._episode_of_lane = (before[:, -1] + done[:, -1]).cpu()
        lane = torch.arange(num, device=done.device).unsqueeze(1)
        batch.set("collector", TensorDict({"traj_ids": lane + num * before}, batch_size=batch.shape))
        return batch

    def _read_states(self) -> list[Tensor] | None:
        if self.kind == "single":
            env = self._collector.env
            return [to_bytes(env.watch.state())] if can_be_continued(env) else None
        if not all(channel.state.exists() for channel in self._channels):
            return None
        return [channel.read_state() for channel in self._channels]


def _shut_down(collector: Any) -> None:
    try:
        collector.shutdown()
    except Exception:  # TorchRL's collectors raise when they are shut down after a failure
        return


def _lanes_of(make_env: Callable[[], EnvBase]) -> int:
    """Copies in an environment, from its function's arguments if they tell, else by making one."""
    keywords = getattr(make_env, "keywords", {})
    if "num_envs" in keywords:
        return int(keywords["num_envs"])
    env = make_env()
    try:
        return max(1, env.batch_size.numel())
    finally:
        env.close()
