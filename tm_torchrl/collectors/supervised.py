"""Supervised collection: TorchRL's collectors, watched, rebuilt when a worker fails, and continued bit for bit.

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
    """Batches of steps ``[N, T]``, for ever; of ``multi_async``, ``[N / W, T]``: those of one worker.

    A worker that raises, dies or stands still is reported with its own traceback, and is started anew with the weights
    that were pushed last; the batch that was being driven is lost, everything else goes on. With ``multi_sync`` all
    workers drive together and are started anew together; with ``multi_async`` each drives on its own, batches come
    first come first served, and nobody waits for a slow worker or for one that is being started anew.

    Every step tells its lane and its trajectory, at ("collector", "lane") and ("collector", "traj_ids"), int64. Lanes
    are numbered through all workers. The numbers of trajectories are given here, never twice, and differ before and
    after the seam that a failure leaves.

    ``multi_async`` is not repeatable bit for bit, since batches come as they are ready; a resumed run begins new
    episodes, and what its workers had begun to drive is not in ``state_dict``. The other kinds go on bit for bit.

    Args:
        make_env: makes the environment of each worker; all of one size.
        policy: acts; workers get copies, which ``push_weights`` renews.
        kind: ``"single"`` (in this process), ``"multi_sync"`` or ``"multi_async"``.
        frames_per_batch: of all lanes together; rounded up to whole steps. A batch of ``multi_async`` has a worker's
            share of them, and as many steps.
        overlap: with ``multi_sync``: drive the next batch while the caller has this one. Which weights drive which
            batch does not depend on timing. Workers of ``multi_async`` always drive on.
        push_every: Batches between pushes of the weights.
        device: of the policy and the batches.
        seed: of the workers' random generators.
        hang_timeout_s: how long a worker may take over one step.
        max_restarts: within ten minutes, of all workers together.
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
        push_every: int = 1,
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
            raise ValueError(f"frames_per_batch={frames_per_batch}: must be at least 1")
        if push_every < 1:
            raise ValueError(f"push_every={push_every}: must be at least 1")
        if not hang_timeout_s > 0:
            raise ValueError(f"hang_timeout_s={hang_timeout_s}: must be positive")
        if max_restarts < 0:
            raise ValueError(f"max_restarts={max_restarts}: must not be negative")
        self.make_env = list(make_env)
        self.policy = policy
        self.frames_per_batch = frames_per_batch
        self.push_every = push_every
        self.overlap = overlap and self.kind == "multi_sync"
        self.device = torch.device(device)
        self.seed = seed
        self.hang_timeout_s = hang_timeout_s
        self.max_restarts = max_restarts
        self.log = log
        self.num_restarts = 0
        self.wait_s = 0.0
        self._restart_times: deque[float] = deque()
        self._folder = Path(tempfile.mkdtemp(prefix="tm_torchrl_"))
        self._groups: list[WorkerGroup] = []
        self._finished: SimpleQueue[tuple[WorkerGroup, Outcome]] = SimpleQueue()
        self._held: deque[tuple[WorkerGroup, Outcome]] = deque()  # taken from there, but not yet delivered
        self._staged: dict[str, Tensor] = {}  # the weights that were pushed last
        self.num_frames = 0
        self._episode_of_lane: Tensor | None = None
        self._num_batches = 0
        self._loaded: dict[str, Any] = {}

    def __iter__(self) -> Iterator[TensorDictBase]:
        return self

    def __next__(self) -> TensorDictBase:
        """The next batch; waits for workers, and rebuilds them if they fail."""
        begin = time.perf_counter()
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
        if self.overlap or self.kind == "multi_async":
            group.ask(self._staged, num_frames=self.num_frames)
        self.wait_s += time.perf_counter() - begin
        self._num_batches += 1
        return self._numbered(group, outcome)

    def push_weights(self) -> None:
        """Use the present weights and exploration rates for the batches that are asked for from now on.

        Only every ``push_every``-th batch has an effect.
        """
        if self._num_batches % self.push_every:
            return
        source = self.policy.state_dict()
        with torch.no_grad():
            for name, value in self._staged.items():
                value.copy_(source[name])

    def set_frames(self, num_frames: int) -> None:
        """Frames played; rewards on schedules follow it in the batches that are asked for from now on."""
        self.num_frames = num_frames

    def shutdown(self) -> None:
        """End all workers; never raises."""
        enders = [threading.Thread(target=group.close, daemon=True) for group in self._groups]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def state_dict(self) -> dict[str, Any]:
        """Numbers of trajectories; and, but for ``multi_async``, environments, generators and the batch in flight.

        What cannot be continued is left out: where a worker has just failed, or an environment cannot be saved.
        """
        if not self._groups:
            return self._loaded
        workers, in_flight = None, None
        if self.kind != "multi_async":
            group = self._groups[0]
            if group.is_asked:
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
        """Go on from there; before the first batch."""
        if self._groups:
            raise RuntimeError("load_state_dict(): the workers run already; load before the first batch")
        if not state:
            return
        self._episode_of_lane = state["episode_of_lane"]
        self._num_batches = state["num_batches"]
        self._loaded = state
        workers, saved_kind = state["workers"], state.get("kind", self.kind)
        if "multi_async" in (saved_kind, self.kind):
            reason = "collector.kind=multi_async does not save them (it is not repeatable bit for bit)"
        elif workers is None:
            reason = "they could not be saved"
        elif len(workers) != len(self.make_env):
            reason = f"there were {len(workers)} workers, now {len(self.make_env)}"
        else:
            return
        self._loaded = {**state, "workers": None, "in_flight": None, "staged": {}}
        self._seam()
        self.log(f"the environments of the saved run do not go on, {reason}: new episodes begin")

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
        # Not TorchRL's MultiAsyncCollector: it does not tell whose batch came, ends all workers if one dies, and sends
        # weights in the middle of a batch. Groups of one worker each share the supervision of the other kinds.
        group_size = 1 if self.kind == "multi_async" else len(lanes)
        for first in range(0, len(lanes), group_size):
            members = slice(first, first + group_size)
            group = WorkerGroup(
                self.make_env[members],
                channels[members],
                self.policy,
                in_workers=self.kind != "single",
                lanes=range(sum(lanes[:first]), sum(lanes[: first + group_size])),
                num_steps=-(-self.frames_per_batch // sum(lanes)),
                device=self.device,
                seed=self.seed,
                hang_timeout_s=self.hang_timeout_s,
                finished=self._finished,
            )
            self._groups.append(group)
        if self.kind != "single":
            weights = self._loaded.get("staged") or self.policy.state_dict()
            self._staged = {name: value.detach().clone().to(self.device) for name, value in weights.items()}
        if self._loaded.get("workers"):
            self._groups[0].states = list(self._loaded["workers"])
            if self._loaded["in_flight"] is not None:
                self._held.append((self._groups[0], from_plain(self._loaded["in_flight"])))
        self._loaded = {}

    def _next_outcome(self) -> tuple[WorkerGroup, Outcome]:
        """What comes next; groups that nobody has asked are asked first."""
        if self._held:
            return self._held.popleft()
        if self.kind == "single":
            group = self._groups[0]
            try:
                return group, group.drive(num_frames=self.num_frames)
            except WorkerFailed as failure:
                return group, failure
        for group in self._groups:
            if not group.is_asked:
                group.ask(self._staged, num_frames=self.num_frames)
        return self._take()

    def _take(self) -> tuple[WorkerGroup, Outcome]:
        """The first outcome that comes."""
        while True:
            try:
                group, outcome = self._finished.get(timeout=POLL_S)
            except Empty:  # an interrupt is noticed in between on every system
                continue
            group.is_asked = False
            return group, outcome

    def _processes(self) -> list[Any]:
        return [process for group in self._groups for process in group.processes()]

    def _rebuild(self, group: WorkerGroup, failure: WorkerFailed) -> None:
        """Report it; the group is started anew when it is asked."""
        now = time.monotonic()
        self._restart_times.append(now)
        while self._restart_times[0] < now - RESTARTS_WITHIN_S:
            self._restart_times.popleft()
        words = group.tracebacks()
        message = f"{failure}" + (f"\n{words}" if words else "")
        if group.num_batches == 0:
            raise WorkerError(f"workers failed before their first batch: {message}") from failure
        if len(self._restart_times) > self.max_restarts:
            raise WorkerError(
                f"workers failed {len(self._restart_times)} times within {RESTARTS_WITHIN_S / 60:.0f} minutes; "
                f"the last time: {message}"
            ) from failure
        self.num_restarts += 1
        self._seam(group.lanes)
        alone = self.kind == "multi_async"
        self.log(f"{message}\n{'This worker is' if alone else 'The workers are'} started anew.")

    # ------------------------------------------------------------------ trajectories

    def _seam(self, lanes: range | None = None) -> None:
        """New trajectories in some lanes, or all."""
        if self._episode_of_lane is not None:
            chosen = slice(None) if lanes is None else slice(lanes.start, lanes.stop)
            self._episode_of_lane = self._episode_of_lane.clone()
            self._episode_of_lane[chosen] += 1

    def _numbered(self, group: WorkerGroup, batch: TensorDictBase) -> TensorDictBase:
        """Number the trajectories: lane + N * (episodes and seams of that lane before)."""
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
    """Episodes of each lane so far; where the number of lanes has changed, all of them beyond any that was given."""
    if saved is None:
        return torch.zeros(num_lanes, dtype=torch.int64)
    if len(saved) == num_lanes:
        return saved
    highest = len(saved) * (int(saved.max()) + 1)
    return torch.full((num_lanes,), -(-highest // num_lanes), dtype=torch.int64)


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
