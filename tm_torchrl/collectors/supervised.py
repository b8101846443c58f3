"""Supervised collection: TorchRL's collectors, restarted when a worker fails, and continued bit for bit.

Shapes: W workers, N lanes of all workers together, T steps of a batch.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import EnvBase

from tm_torchrl.collectors.processes import remedy, require_open_files
from tm_torchrl.collectors.watchdog import POLL_S, WorkerFailed
from tm_torchrl.collectors.worker_env import Channel
from tm_torchrl.collectors.worker_group import Outcome, WorkerGroup
from tm_torchrl.data.saving.plain_state import from_plain, to_plain
from tm_torchrl.settings.nearest import nearest_name

KINDS = {
    "single": "single",
    "multi_sync": "multi_sync",
    "multi_async": "multi_async",
    "Collector": "single",
    "SyncDataCollector": "single",  # the DataCollectors are TorchRL's names before 0.14
    "MultiSyncDataCollector": "multi_sync",
    "MultiSyncCollector": "multi_sync",
    "MultiaSyncDataCollector": "multi_async",
    "MultiAsyncCollector": "multi_async",
}
RESTARTS_WITHIN_S = 600.0
SLOW_START_S = 15.0
SLOW_START = (
    "the worker processes are still starting; the first start on a machine builds the simulator's "
    "kernels. Ctrl-C ends it; collector=single needs no workers"
)


class WorkerError(RuntimeError):
    """Workers failed too often; the message holds their traceback."""


def collector_kind(name: str) -> str:
    """The kind that a name means; TorchRL's class names, old and new, are understood.

    >>> collector_kind("MultiSyncDataCollector"), collector_kind("MultiaSyncDataCollector")
    ('multi_sync', 'multi_async')
    """
    if name not in KINDS:
        raise ValueError(f"collector.kind={name!r}: no such kind{nearest_name(name, KINDS)}")
    return KINDS[name]


class SupervisedCollector:
    """Batches of steps ``[N, T]`` without end; with ``multi_async``, ``[N / W, T]``: the steps of one worker.

    A worker that raises, dies or hangs is reported with its own traceback and restarted with the weights that were
    pushed last. The batch that it was collecting is lost; everything else continues. With ``multi_sync`` all workers
    collect together and are restarted together. With ``multi_async`` each collects on its own, batches are delivered as
    they arrive, and a slow or restarting worker delays nobody.

    Each step holds its lane and its trajectory at ("collector", "lane") and ("collector", "traj_ids"), int64. Lanes are
    numbered over all workers. A trajectory's number is unique, and changes where a failure interrupts an episode.

    ``multi_async`` is not repeatable bit for bit, because batches are delivered as they arrive; a resumed run begins
    new episodes, and batches in progress are not in ``state_dict``. The other kinds continue bit for bit.

    Args:
        make_env: Makes the environment of each worker; all have the same size.
        policy: Acts; workers get copies, which ``push_weights`` updates.
        kind: ``"single"`` (in this process), ``"multi_sync"`` or ``"multi_async"``.
        frames_per_batch: Frames of all lanes together, rounded up to whole steps. A batch of ``multi_async`` has one
            worker's share of the lanes, and as many steps.
        overlap: With ``multi_sync``: collect the next batch while the caller uses this one. Which weights collect which
            batch does not depend on timing. Workers of ``multi_async`` never wait.
        push_every: Batches between pushes of the weights.
        device: Device of the policy and the batches.
        seed: Seeds the workers' random generators.
        hang_timeout_s: How long a worker may take for a step.
        max_restarts: Failures of all workers within ten minutes after which collection ends.
        log: Takes messages.

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
        push_every: int = 1,
        device: torch.device | str = "cpu",
        seed: int = 0,
        hang_timeout_s: float = 10.0,
        max_restarts: int = 10,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.kind = collector_kind(kind)
        if not make_env or (self.kind == "single" and len(make_env) != 1):
            raise ValueError(
                f"make_env has {len(make_env)} functions; {kind} needs {'1' if make_env else 'at least 1'}"
            )
        if frames_per_batch < 1:
            raise ValueError(f"frames_per_batch={frames_per_batch}: must be at least 1")
        if push_every < 1:
            raise ValueError(f"push_every={push_every}: must be at least 1")
        if not hang_timeout_s > 0:
            raise ValueError(f"hang_timeout_s={hang_timeout_s}: must be positive")
        if max_restarts < 0:
            raise ValueError(f"max_restarts={max_restarts}: must not be negative")
        if self.kind != "single":
            require_open_files()
        self.make_env = list(make_env)
        self.policy = policy
        self.frames_per_batch = frames_per_batch
        self.push_every = push_every
        self.overlap = overlap and self.kind == "multi_sync"
        self._goes_on = self.overlap or self.kind == "multi_async"  # whether a delivered batch is followed by a request
        self.device = torch.device(device)
        self.seed = seed
        self.hang_timeout_s = hang_timeout_s
        self.max_restarts = max_restarts
        self.log = log
        self.num_restarts = 0
        self._restart_times: deque[float] = deque()
        self._folder = Path(tempfile.mkdtemp(prefix="tm_torchrl_"))
        self._groups: list[WorkerGroup] = []
        self._finished: SimpleQueue[tuple[WorkerGroup, Outcome]] = SimpleQueue()
        self._held: deque[tuple[WorkerGroup, Outcome]] = deque()  # taken from the queue, but not delivered yet
        self._staged: dict[str, Tensor] = {}  # the weights that were pushed last
        self.num_frames = 0
        self._episode_of_lane: Tensor | None = None
        self._num_batches = 0
        self._loaded: dict[str, Any] = {}

    def __iter__(self) -> Iterator[TensorDictBase]:
        return self

    def __next__(self) -> TensorDictBase:
        """The next batch; waits for workers, and restarts them if they fail."""
        if not self._groups:
            self._prepare()
        while True:
            group, outcome = self._next_outcome()
            if isinstance(outcome, WorkerFailed):
                self._rebuild(group, outcome)
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                break
        if self._goes_on:
            group.request(self._staged, num_frames=self.num_frames)
        self._num_batches += 1
        return self._numbered(group, outcome)

    def push_weights(self) -> None:
        """Use the present weights and exploration rates for the batches that are requested from now on.

        Only every ``push_every``-th batch has an effect.
        """
        if self._num_batches % self.push_every:
            return
        source = self.policy.state_dict()
        with torch.no_grad():
            for name, value in self._staged.items():
                value.copy_(source[name])

    def set_frames(self, num_frames: int) -> None:
        """Set the number of frames played, for rewards on schedules in the batches that are requested from now on."""
        self.num_frames = num_frames

    def metrics(self) -> dict[str, float]:
        """Empty; what is worth a row of the log is in the messages."""
        return {}

    def shutdown(self) -> None:
        """End all workers; never raises."""
        enders = [threading.Thread(target=group.close, daemon=True) for group in self._groups]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def state_dict(self) -> dict[str, Any]:
        """Numbers of trajectories and, except for ``multi_async``, environments, generators and the batch in progress.

        Environments are left out where a worker has just failed, or where one of them cannot be saved.
        """
        if not self._groups:
            return self._loaded
        workers, in_flight = None, None
        if self.kind != "multi_async":
            group = self._groups[0]
            if group.is_requested:
                self._held.append(self._take())
            outcome = self._held[0][1] if self._held else None
            if not isinstance(outcome, Exception):
                in_flight = None if outcome is None else to_plain(outcome.clone())
                workers = group.read_states()
        return {
            "kind": self.kind,
            "workers": workers,
            "in_flight": in_flight,
            "episode_of_lane": self._episode_of_lane,
            "num_batches": self._num_batches,
            "staged": {name: value.clone() for name, value in self._staged.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state; only before the first batch."""
        if self._groups:
            raise RuntimeError("load_state_dict(): the workers are running already; call it before the first batch")
        if not state:
            return
        self._episode_of_lane = state["episode_of_lane"]
        self._num_batches = state["num_batches"]
        self._loaded = state
        workers, saved_kind = state["workers"], state.get("kind", self.kind)
        if "multi_async" in (saved_kind, self.kind):
            reason = "workers that do not wait for each other save none (they are not repeatable bit for bit)"
        elif workers is None:
            reason = "they could not be saved"
        elif len(workers) != len(self.make_env):
            reason = f"there were {len(workers)} workers, now {len(self.make_env)}"
        else:
            return
        self._loaded = {**state, "workers": None, "in_flight": None, "staged": {}}
        self._begin_trajectories()
        self.log(f"the environments of the saved run do not continue, {reason}: new episodes begin")

    # ------------------------------------------------------------------ workers

    def _prepare(self) -> None:
        lanes = [_lanes_of(make) for make in self.make_env]
        if len(set(lanes)) > 1:
            raise ValueError(f"make_env: environments of {lanes} lanes; all workers need the same number")
        before = self._episode_of_lane
        if before is not None and len(before) != sum(lanes) and self._loaded.get("workers"):
            self._loaded = {}
            self.log(f"the saved run had {len(before)} lanes, this one has {sum(lanes)}: new episodes begin")
        self._episode_of_lane = _first_episodes(before, sum(lanes))
        channels = [Channel(self._folder, worker) for worker in range(len(lanes))]
        # TorchRL's MultiAsyncCollector does not say which worker a batch is from, ends all workers if one dies, and
        # sends weights in the middle of a batch. Groups of one worker share the supervision of the other kinds.
        group_size = 1 if self.kind == "multi_async" else len(lanes)
        for first in range(0, len(lanes), group_size):
            members = slice(first, first + group_size)
            mine = range(sum(lanes[:first]), sum(lanes[: first + group_size]))
            num_steps = -(-self.frames_per_batch // sum(lanes))
            self._groups.append(self._make_group(self.make_env[members], channels[members], mine, num_steps))
        if self.kind != "single":
            weights = self._loaded.get("staged") or self.policy.state_dict()
            self._staged = {name: value.detach().clone().to(self.device) for name, value in weights.items()}
        if self._loaded.get("workers"):
            self._groups[0].states = list(self._loaded["workers"])
            if self._loaded["in_flight"] is not None:
                self._held.append((self._groups[0], from_plain(self._loaded["in_flight"])))
        self._loaded = {}

    def _make_group(
        self, make_env: Sequence[Callable[[], EnvBase]], channels: Sequence[Channel], lanes: range, num_steps: int
    ) -> WorkerGroup:
        return WorkerGroup(
            make_env,
            channels,
            self.policy,
            in_workers=self.kind != "single",
            lanes=lanes,
            num_steps=num_steps,
            device=self.device,
            seed=self.seed,
            hang_timeout_s=self.hang_timeout_s,
            finished=self._finished,
        )

    def _next_outcome(self) -> tuple[WorkerGroup, Outcome]:
        """The next batch or failure; groups without a request get one first."""
        if self._held:
            return self._held.popleft()
        if self.kind == "single":
            group = self._groups[0]
            try:
                return group, group.collect(num_frames=self.num_frames)
            except WorkerFailed as failure:
                return group, failure
        for group in self._groups:
            if not group.is_requested:
                group.request(self._staged, num_frames=self.num_frames)
        return self._take()

    def _take(self) -> tuple[WorkerGroup, Outcome]:
        """The first outcome that arrives."""
        begin, is_told = time.monotonic(), any(group.num_batches for group in self._groups)
        while True:
            try:
                group, outcome = self._finished.get(timeout=POLL_S)
            except Empty:  # so that Ctrl-C is noticed on every system
                if not is_told and time.monotonic() - begin > SLOW_START_S:
                    self.log(SLOW_START)
                    is_told = True
                continue
            group.is_requested = False
            return group, outcome

    def _processes(self) -> list[Any]:
        return [process for group in self._groups for process in group.processes()]

    def _rebuild(self, group: WorkerGroup, failure: WorkerFailed) -> None:
        """Report a failure; the group restarts at its next request."""
        now = time.monotonic()
        self._restart_times.append(now)
        while self._restart_times[0] < now - RESTARTS_WITHIN_S:
            self._restart_times.popleft()
        words = group.tracebacks()
        message = f"{failure}" + (f"\n{words}" if words else "")
        if not self._may_pass(group, failure):
            raise WorkerError(f"workers failed before their first batch: {message}{remedy(message)}") from failure
        if len(self._restart_times) > self.max_restarts:
            raise WorkerError(
                f"workers failed {len(self._restart_times)} times within {RESTARTS_WITHIN_S / 60:.0f} minutes; "
                f"the last time: {message}{remedy(message)}"
            ) from failure
        self.num_restarts += 1
        self._begin_trajectories(group.lanes)
        is_alone = self.kind == "multi_async"
        self.log(f"{message}\n{'This worker restarts' if is_alone else 'The workers restart'}.")

    def _may_pass(self, group: WorkerGroup, failure: WorkerFailed) -> bool:
        """Whether the group may do better next time; a failure before its first batch will come again."""
        return group.num_batches > 0

    # ------------------------------------------------------------------ trajectories

    def _begin_trajectories(self, lanes: range | None = None) -> None:
        """Begin new trajectories in some lanes, or in all."""
        if self._episode_of_lane is not None:
            chosen = slice(None) if lanes is None else slice(lanes.start, lanes.stop)
            self._episode_of_lane = self._episode_of_lane.clone()
            self._episode_of_lane[chosen] += 1

    def _numbered(self, group: WorkerGroup, batch: TensorDictBase) -> TensorDictBase:
        """Number the trajectories: lane + N * (earlier trajectories of that lane)."""
        assert self._episode_of_lane is not None
        num, steps = batch.shape
        mine = slice(group.lanes.start, group.lanes.stop)
        done = batch["next", "done"].reshape(num, steps).to(torch.int64)
        before = self._episode_of_lane[mine].to(done.device).unsqueeze(1) + done.cumsum(1) - done
        episodes = self._episode_of_lane.clone()
        episodes[mine] = (before[:, -1] + done[:, -1]).cpu()
        self._episode_of_lane = episodes
        lane = torch.arange(mine.start, mine.stop, device=done.device).unsqueeze(1).expand(num, steps)
        numbers = {"lane": lane, "traj_ids": lane + len(episodes) * before}
        batch.set("collector", TensorDict(numbers, batch_size=batch.shape))
        return batch


def _first_episodes(saved: Tensor | None, num_lanes: int) -> Tensor:
    """Trajectories of each lane so far; where the number of lanes has changed, a number that no lane has reached."""
    if saved is None:
        return torch.zeros(num_lanes, dtype=torch.int64)
    if len(saved) == num_lanes:
        return saved
    highest = len(saved) * (int(saved.max()) + 1)
    return torch.full((num_lanes,), -(-highest // num_lanes), dtype=torch.int64)


def _lanes_of(make_env: Callable[[], EnvBase]) -> int:
    """The number of copies in an environment, from its function's arguments if they include it, else by making one."""
    keywords = getattr(make_env, "keywords", {})
    if "num_envs" in keywords:
        return int(keywords["num_envs"])
    env = make_env()
    try:
        return max(1, env.batch_size.numel())
    finally:
        env.close()
