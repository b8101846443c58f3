"""Collection by Ray actors under the supervision of worker processes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from tm_torchrl.collectors.collector import EnvMaker
from tm_torchrl.collectors.make import most_equal_shares, share_equally
from tm_torchrl.collectors.on_ray.packing import packed
from tm_torchrl.collectors.on_ray.session import LOCAL, connect, disconnect, total_cpus
from tm_torchrl.collectors.on_ray.shard import RayShard
from tm_torchrl.collectors.on_ray.worker import START_TIMEOUT_S, Lost, NotStarted, RayWorker, Weights
from tm_torchrl.collectors.supervised import SupervisedCollector, WorkerError
from tm_torchrl.collectors.watchdog import WorkerFailed
from tm_torchrl.collectors.worker_env import Channel
from tm_torchrl.collectors.worker_group import Outcome, WorkerGroup
from tm_torchrl.data.sharded.replay import ShardedReplay

TELL_AGAIN_S = 60.0  # between messages about one slow worker


class RayCollector(SupervisedCollector):
    """Batches ``[N / W, T]`` of single workers as they arrive, like ``multi_async``, from actors on any machine.

    An actor that raises, dies or hangs, or whose node does, is reported and replaced; Ray places the new one wherever
    there is room. The others go on meanwhile. Each actor collects one batch at a time, and the next one when the
    learner has taken it, so nothing queues up.

    Args:
        make_env: Makes the environment of each worker; all have the same size.
        policy: Acts; actors get copies on their CPUs.
        address: ``"local"`` starts a Ray on this machine; otherwise a cluster's, see ``connect``.
        resources: What an actor needs; CPUs, and others that nodes offer, such as ``{"CPU": 1, "game": 1}``.
        is_synchronous: Whether all workers collect with the same weights, and wait until the learner has used the
            batches of all. A worker that is being replaced is not waited for.
        max_weights_age: A batch is left out where between its weights and the newest ones the learner has used more
            batches of ``frames_per_batch`` frames than this.
        frames_per_batch: Frames of all lanes together; a batch has one worker's share of the lanes.
        push_every: Batches between pushes of the weights.
        hang_timeout_s: How long a worker may take for a step.
        max_restarts: Failures of all workers within ten minutes after which collection ends.
        device: Device of the policy and the batches.
        seed: Seeds the workers' random generators.
        replay: A replay whose shards are Ray actors, which take the transitions that workers write; ``None`` where the
            learner has the replay.
        log: Takes messages.
    """

    def __init__(
        self,
        make_env: Sequence[Callable[[], EnvBase]],
        policy: TensorDictModuleBase,
        *,
        address: str = LOCAL,
        resources: Mapping[str, float] | None = None,
        is_synchronous: bool = False,
        max_weights_age: float = 16.0,
        frames_per_batch: int = 512,
        push_every: int = 1,
        hang_timeout_s: float = 30.0,
        max_restarts: int = 100,
        device: torch.device | str = "cpu",
        seed: int = 0,
        replay: ShardedReplay | None = None,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        if not max_weights_age > 0:
            raise ValueError(f"max_weights_age={max_weights_age}: must be positive")
        self.resources = {"CPU": 1.0, **(resources or {})}
        for name, amount in self.resources.items():
            if not amount >= 0:
                raise ValueError(f"resources={dict(self.resources)}: {name} must not be negative")
        super().__init__(
            make_env,
            policy,
            kind="multi_async",
            frames_per_batch=frames_per_batch,
            push_every=push_every,
            device=device,
            seed=seed,
            hang_timeout_s=hang_timeout_s,
            max_restarts=max_restarts,
            log=log,
        )
        self.replay = replay
        self.is_synchronous = is_synchronous
        self.max_weights_age = max_weights_age
        self._goes_on = not is_synchronous
        self._weights: Weights | None = None
        self._ages: list[float] = []  # since the last call of metrics()
        self._num_left_out = 0
        self._told_at: dict[int, float] = {}
        self._delivered_at = time.monotonic()
        self._version, self._pushed_at = 0, 0
        self._weights_lock = threading.Lock()
        try:
            cpus = math.ceil(len(self.make_env) * self.resources["CPU"])
            shards = 0 if replay is None else math.ceil(replay.num_shards * replay.resources.get("CPU", 0.0))
            connect(address, num_cpus=cpus + shards + 1)  # one for evaluations
            if replay is not None:
                replay.open(partial(RayShard, replay.make_shard, replay.resources, replay.hang_timeout_s), log=log)
        except Exception:
            super().shutdown()
            raise

    def push_weights(self) -> None:
        """Use the present weights and exploration rates for the batches that are requested from now on."""
        if self._num_batches % self.push_every:
            return
        with self._weights_lock:  # a worker that restarts may read them now
            super().push_weights()
            self._weights, self._pushed_at = None, self._num_batches

    def metrics(self) -> dict[str, float]:
        """Age of the weights of the batches since the last call, and counts since the start."""
        ages, self._ages = self._ages, []
        found = {"restarts": float(self.num_restarts), "left_out": float(self._num_left_out)}
        if ages:
            found |= {"weights_age": sum(ages) / len(ages), "weights_age_max": max(ages)}
        return found

    def shutdown(self) -> None:
        """End all actors, and a Ray of our own; never raises."""
        super().shutdown()
        if self.replay is not None:
            self.replay.close()
        disconnect()

    # ------------------------------------------------------------------ workers

    def _make_group(
        self, make_env: Sequence[Callable[[], EnvBase]], channels: Sequence[Channel], lanes: range, num_steps: int
    ) -> WorkerGroup:
        return RayWorker(
            make_env[0],
            channels[0],
            self.policy,
            lanes=lanes,
            num_steps=num_steps,
            device=self.device,
            seed=self.seed,
            hang_timeout_s=self.hang_timeout_s,
            finished=self._finished,
            weights=self._newest_weights,
            resources=self.resources,
            writer=None if self.replay is None else self.replay.n_step,
        )

    def _newest_weights(self) -> Weights:
        """The staged weights in Ray's memory, put there when a worker first asks for them."""
        with self._weights_lock:
            if self._weights is None:
                import ray

                self._version += 1
                data = ray.put(packed(self._staged.items()))
                self._weights = Weights(data, version=self._version, num_batches=self._pushed_at)
            return self._weights

    def _next_outcome(self) -> tuple[WorkerGroup, Outcome]:
        """The next batch that is not too old, or a failure."""
        while True:
            self._request_those_due()
            group, outcome = self._take()
            assert isinstance(group, RayWorker)
            if isinstance(outcome, Exception) or self._is_fresh(group):
                return group, outcome

    def _request_those_due(self) -> None:
        """Request batches of all idle workers; synchronous ones wait for each other, except for those that restart."""
        busy = [group for group in self._groups if group.is_requested]
        if self.is_synchronous and not all(isinstance(group, RayWorker) and group.is_restarting for group in busy):
            return
        for group in self._groups:
            if group not in busy:
                group.request(self._staged, num_frames=self.num_frames)

    def _is_fresh(self, group: RayWorker) -> bool:
        assert group.used is not None
        age = (self._pushed_at - group.used.num_batches) / len(self._groups)
        self._delivered_at = now = time.monotonic()
        if age <= self.max_weights_age:
            self._ages.append(age)
            return True
        self._num_left_out += 1
        self._begin_trajectories(group.lanes)
        if now - self._told_at.get(group.number, -TELL_AGAIN_S) >= TELL_AGAIN_S:
            self._told_at[group.number] = now
            self.log(
                f"worker {group.number} is slow: its batch is left out, because the newest weights are {age:.1f} "
                f"batches newer than its own (collector.max_weights_age={self.max_weights_age:g})"
            )
        return False

    def _may_pass(self, group: WorkerGroup, failure: WorkerFailed) -> bool:
        """Whether any worker has delivered, or only the place was lost: a new node may fail while the others go on."""
        return any(each.num_batches for each in self._groups) or Lost in (type(failure), type(failure.__cause__))

    def _rebuild(self, group: WorkerGroup, failure: WorkerFailed) -> None:
        """Report a failure; collection ends where no worker has delivered for as long as a start may take."""
        if not isinstance(failure, NotStarted):
            super()._rebuild(group, failure)
        if time.monotonic() - self._delivered_at > START_TIMEOUT_S:
            raise WorkerError(
                f"no worker has delivered a batch for {START_TIMEOUT_S:g} s; the last failure: {failure}"
            ) from failure
        if isinstance(failure, NotStarted):
            self.log(f"{failure}. It is tried again.")


def make_ray_collector(
    env_maker: EnvMaker,
    policy: TensorDictModuleBase,
    *,
    address: str = LOCAL,
    num_workers: int | str = "auto",
    resources: Mapping[str, float] | None = None,
    is_synchronous: bool = False,
    max_weights_age: float = 16.0,
    frames_per_batch: int = 512,
    push_every: int = 1,
    hang_timeout_s: float = 30.0,
    max_restarts: int = 100,
    device: torch.device | str = "cpu",
    seed: int = 0,
    replay: ShardedReplay | None = None,
    log: Callable[[str], None] = lambda message: None,
) -> RayCollector:
    """Actors that share the environments equally; the parameters that are not below are those of ``RayCollector``.

    Args:
        env_maker: Makes the environments, such as a task.
        policy: Acts; actors get copies.
        address: ``"local"``, ``"auto"``, or the address of a cluster's head.
        num_workers: Actors; ``"auto"`` for as many as the task needs, or else as there are CPUs: on this machine all
            but the learner's, in a cluster all.
        hang_timeout_s: How long a worker may take for a step; a game that restarts may take longer.
        seed: Seeds the environments and the workers' random generators.
        replay: Its shards become actors.
    """
    if num_workers == "auto" and env_maker.num_workers is not None:
        num_workers = env_maker.num_workers
    if num_workers == "auto" and address != LOCAL:
        connect(address)
        num_workers = most_equal_shares(int(total_cpus()), num_envs=env_maker.num_envs)
    workers = share_equally(num_workers, num_envs=env_maker.num_envs)
    env_maker.check_workers(workers, in_this_process=False)
    share = env_maker.num_envs // workers
    return RayCollector(
        [partial(env_maker.make_env, num_envs=share, first=share * i, seed=seed) for i in range(workers)],
        policy,
        address=address,
        resources=resources,
        is_synchronous=is_synchronous,
        max_weights_age=max_weights_age,
        frames_per_batch=frames_per_batch,
        push_every=push_every,
        hang_timeout_s=max(hang_timeout_s, env_maker.longest_step_s),
        max_restarts=max_restarts,
        device=device,
        seed=seed,
        replay=replay,
        log=log,
    )
