"""The learner's side of one Ray actor: a group of one worker, under the same watchdog as worker processes."""

from __future__ import annotations

import contextlib
import copy
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import EnvBase

from tm_torchrl.collectors.on_ray.actor import CollectingActor
from tm_torchrl.collectors.on_ray.packing import unpacked_batch
from tm_torchrl.collectors.on_ray.session import actor_options, missing
from tm_torchrl.collectors.watchdog import WorkerFailed
from tm_torchrl.collectors.worker_env import Channel
from tm_torchrl.collectors.worker_group import Outcome, WorkerGroup
from tm_torchrl.data.sharded.replay import ROWS, Rows
from tm_torchrl.data.steps.n_step import NStep

START_TIMEOUT_S = 300.0  # a process starts somewhere, and the simulator's kernels are built on their first use
BEAT_S = 1.0  # between questions for the heartbeat
MOST_CHARACTERS = 300  # of an error that Ray describes at length
MOST_LANES = 2**20
ANSWER_S = 2.0  # for an actor to say where it hangs, or to close its environment


class NotStarted(WorkerFailed):
    """An actor has not started in time; a cluster may have room for it later."""


class Lost(WorkerFailed):
    """An actor has ended, or its node has, or neither can be reached."""


@dataclass(frozen=True)
class Weights:
    """Weights in Ray's memory, which all workers read.

    Args:
        data: A reference to packed tensors.
        version: The number of earlier weights.
        num_batches: Batches of single workers that the learner had used when it pushed them.
    """

    data: Any
    version: int
    num_batches: int


class RayWorker(WorkerGroup):
    """Collects a batch of its own lanes in a Ray actor at each request.

    Args:
        make_env: Makes the environment.
        channel: Only its number is used; the actor has files of its own.
        policy: Acts; the actor gets a copy.
        lanes: This worker's lanes among those of the whole collection.
        num_steps: Steps in a batch.
        device: Device of the batches.
        seed: Seeds the actor's random generators.
        hang_timeout_s: How long the actor may take for a step.
        finished: Receives batches and failures.
        weights: Returns the newest weights.
        resources: What the actor needs: CPUs, and other resources by name.
        writer: Writes transitions in the actor, where the replay is not the learner's.
    """

    def __init__(
        self,
        make_env: Callable[[], EnvBase],
        channel: Channel,
        policy: TensorDictModuleBase,
        *,
        lanes: range,
        num_steps: int,
        device: torch.device,
        seed: int,
        hang_timeout_s: float,
        finished: SimpleQueue[tuple[WorkerGroup, Outcome]],
        weights: Callable[[], Weights],
        resources: dict[str, float],
        writer: NStep | None = None,
    ) -> None:
        self.beats = ActorChannel(channel)
        channels: list[Any] = [self.beats]
        super().__init__(
            [make_env],
            channels,
            policy,
            in_workers=True,
            lanes=lanes,
            num_steps=num_steps,
            device=device,
            seed=seed,
            hang_timeout_s=hang_timeout_s,
            finished=finished,
        )
        self.weights = weights
        self.resources = resources
        self.writer = writer
        self.used: Weights | None = None  # for the last batch
        self.is_restarting = False  # or starting for the first time
        self._num_frames = 0

    @property
    def number(self) -> int:
        """The number of the worker, for messages."""
        return self.beats.worker

    def request(self, weights: Mapping[str, Tensor], *, num_frames: int = 0) -> None:
        """Request a batch, collected in the background with the newest weights.

        Args:
            weights: Not used: all workers share one copy.
            num_frames: Sets rewards on schedules.
        """
        self._num_frames = num_frames
        self.is_requested = True
        self.is_restarting = self._has_failed or self.collector is None
        threading.Thread(target=self._answer, daemon=True).start()

    def processes(self) -> list[Any]:
        """What the watchdog ends: the actor."""
        actor = self.collector
        return [] if actor is None else [ActorProcess(actor, self.beats)]

    def read_states(self) -> None:
        """``None``: a resumed run begins new episodes."""

    # ------------------------------------------------------------------ in the background

    def _start(self) -> None:
        import ray

        self._is_starting = True
        try:
            if self._is_closed:
                raise WorkerFailed("the collector was shut down")
            self.beats.follow(None)
            self.collector = self._remote_class().remote(
                self.make_env[0],
                copy.deepcopy(self.policy).cpu(),
                worker=self.number,
                num_lanes=len(self.lanes),
                num_steps=self.num_steps,
                seed=self._seed_of(self.number),
                writer=None if self.writer is None else (copy.deepcopy(self.writer), self._first_stream()),
            )
            started = self.collector.start.remote()
            if not ray.wait([started], timeout=START_TIMEOUT_S)[0]:
                raise NotStarted(self._late_start())
            self._refuse(self._get(started))
            self.beats.follow(self.collector)
        finally:
            self._is_starting = False
        self.is_restarting = False

    def _remote_class(self) -> Any:
        import ray

        watch = {"concurrency_groups": {"watch": 1}}  # answers while a batch is collected
        return ray.remote(**actor_options(self.resources), **watch)(CollectingActor)

    def _first_stream(self) -> int:
        """The number of the first lane's frames, another one after each restart."""
        return self.lanes.start + MOST_LANES * (self.num_restarts % 2048)

    def _late_start(self) -> str:
        return f"worker {self.number} has not started within {START_TIMEOUT_S:g} s: {missing(self.resources)}"

    def _next_of_workers(self) -> TensorDictBase:
        self.used = self.weights()
        self.beats.rest()
        if self.writer is not None:
            return self._next_and_rows(self.used.data)
        arrays, trace = self._get(self.collector.collect.remote(self.used.data, self._num_frames))
        self._refuse(trace)
        return unpacked_batch(arrays, num_lanes=len(self.lanes), num_steps=self.num_steps).to(self.device)

    def _next_and_rows(self, weights: Any) -> TensorDictBase:
        """A batch without observations; its transitions stay in the memory of the actor's machine."""
        assert self.writer is not None
        answer, rows = self.collector.collect_and_write.options(num_returns=2).remote(
            weights, self._num_frames, self.writer.gamma
        )
        arrays, num, trace = self._get(answer)
        self._refuse(trace)
        batch = unpacked_batch(arrays, num_lanes=len(self.lanes), num_steps=self.num_steps).to(self.device)
        batch.set_non_tensor(ROWS, Rows(rows, num))
        return batch

    def _refuse(self, trace: str) -> None:
        """Raise ``WorkerFailed`` for the traceback of an error in the actor."""
        if trace:
            self.beats.text = trace
            raise WorkerFailed(f"worker {self.number}: {trace.strip().splitlines()[-1]}")

    def _get(self, reference: Any) -> Any:
        """Ray's answer; its long errors become one line."""
        import ray

        try:
            return ray.get(reference)
        except ray.exceptions.RayError as error:
            raise Lost(f"worker {self.number} {reason(error)}") from error

    def _stop(self) -> None:
        actor, self.collector = self.collector, None
        if actor is None:
            return
        import ray

        with contextlib.suppress(Exception):
            if not self._has_failed:
                ray.wait([actor.close.remote()], timeout=ANSWER_S)
        with contextlib.suppress(Exception):
            ray.kill(actor)


class ActorChannel:
    """The heartbeat and the last traceback of an actor, in the place of a worker's files.

    Args:
        channel: The files, of which the actor's own machine has others.
    """

    def __init__(self, channel: Channel) -> None:
        self.worker, self.frames = channel.worker, channel.frames
        self.follow(None)

    def follow(self, actor: Any) -> None:
        """Begin with a new actor; ``None`` for one that does not answer yet."""
        self.actor, self.text = actor, ""
        self._steps, self._asked_at = 0, 0.0
        self._answer: Any = None  # to the question for the number of steps

    def rest(self) -> None:
        """Ask nothing for a while: most batches take less."""
        self._asked_at = time.monotonic()

    def num_steps(self) -> int:
        """The number of steps as far as the actor has told, without waiting for it."""
        import ray

        now = time.monotonic()
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            with contextlib.suppress(ray.exceptions.RayError):  # the request for the batch fails too, and says why
                self._steps = ray.get(self._answer)
            self._answer = None
        if self._answer is None and self.actor is not None and now - self._asked_at >= BEAT_S:
            self._answer = self._ask("num_steps")
            self._asked_at = now
        return self._steps

    def traceback(self) -> str:
        """The text of the actor's traceback; empty if there is none."""
        return self.text

    def kill(self) -> None:
        """Ask the actor where it hangs, and end it."""
        import ray

        if self.actor is None:
            return
        with contextlib.suppress(ray.exceptions.RayError):
            self.text = ray.get(self._ask("where"), timeout=ANSWER_S)
        ray.kill(self.actor)

    def _ask(self, question: str) -> Any:
        return getattr(self.actor, question).options(concurrency_group="watch").remote()


@dataclass
class ActorProcess:
    """An actor in the place of a process, for the watchdog; it has no process number on this machine.

    Args:
        actor: The actor.
        channel: Its channel.
    """

    actor: Any
    channel: ActorChannel
    pid: None = None
    exitcode: None = None  # a request tells that an actor has ended

    def kill(self) -> None:
        """End the actor."""
        if self.channel.actor is not None:
            self.channel.kill()
            return
        import ray

        ray.kill(self.actor)


def reason(error: Exception) -> str:
    """What has happened to an actor, in one line.

    Args:
        error: Ray's error.
    """
    text = " ".join(str(error).split())
    place = re.search(r" ip: (\S+)", text)
    where = f" on {place[1]}" if place else ""
    if re.search(r"its node|node (has died|was terminated|is dead|failed)", text):
        return f"ended{where}: its node has ended or does not answer"
    if type(error).__name__ == "ActorUnavailableError":
        return f"cannot be reached{where}: the connection to its process or node broke"
    if "process has died" in text or "process exit" in text:
        return f"ended{where}: its process was killed or crashed"
    return f"ended{where}: {type(error).__name__}: {text[:MOST_CHARACTERS]}"
