"""Evaluations in a Ray actor, on any machine of a cluster."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from tm_torchrl.collectors.on_ray.packing import Packed, packed, unpacked
from tm_torchrl.collectors.on_ray.session import connect, disconnect, room
from tm_torchrl.collectors.on_ray.worker import START_TIMEOUT_S, reason
from tm_torchrl.tasks.task import Row, Task

POLL_S = 0.1
EVALUATION_TIMEOUT_S = 1800.0  # for one evaluation
SILENCE_TIMEOUT_S = 60.0  # between answers to "are you there"; Ray itself misses a node that long
MAX_LOSSES = 3  # of one evaluation
RESOURCES = {"CPU": 1.0}


class EvaluatingActor:
    """Evaluates one set of weights after the other; what runs in a Ray worker process.

    Args:
        task: What is evaluated.
        actor: Gets the weights of each request.
        num: Laps on each track, or episodes.
        seed: Seeds the perturbed starts.
    """

    def __init__(self, task: Task, actor: TensorDictModuleBase, num: int, seed: int) -> None:
        torch.set_num_threads(1)
        self.task, self.actor, self.num, self.seed = task, actor, num, seed

    def evaluate(self, weights: Packed[str]) -> list[Row]:
        """The rows of an evaluation."""
        self.actor.load_state_dict(unpacked(weights))
        return self.task.evaluate(self.actor, num=self.num, seed=self.seed)

    def is_there(self) -> int:
        """The number of the process; answers while an evaluation goes on."""
        return os.getpid()


class EvaluationActor:
    """As ``EvaluationProcess``, in a Ray actor; one that dies, is cut off or hangs is replaced, and evaluates again.

    Joins the cluster that the collector has joined, otherwise that of this machine or of ``RAY_ADDRESS``.

    Args:
        task: What is evaluated; is sent to the actor.
        actor: Is copied to the Ray actor, with weights that change at each request.
        num: Laps on each track, or episodes.
        seed: Seeds the perturbed starts.
        log: Takes messages.
    """

    def __init__(
        self, task: Task, actor: TensorDictModuleBase, *, num: int, seed: int, log: Callable[[str], None]
    ) -> None:
        self._is_connected_by_us = connect(os.environ.get("RAY_ADDRESS") or "auto", num_cpus=1)
        self._arguments = (task, copy.deepcopy(actor).cpu(), num, seed)
        self.log = log
        self._weights: Any = None
        self._num_losses = 0
        self._start()

    def request(self, weights: Mapping[str, Tensor]) -> None:
        """Begin an evaluation with these weights."""
        import ray

        self._weights, self._num_losses = ray.put(packed(weights.items())), 0
        self._ask()

    def result(self, *, wait: bool) -> list[Row] | None:
        """The rows of the requested evaluation; ``None`` if they are not there yet.

        Raises ``OSError`` if the evaluation fails, if no actor starts, or if too many are lost.

        Args:
            wait: Whether to wait for them.
        """
        import ray

        while True:
            if ray.wait([self._answer], timeout=POLL_S if wait else 0)[0]:
                try:
                    rows: list[Row] = ray.get(self._answer)
                    return rows
                except ray.exceptions.RayTaskError as error:
                    raise OSError(f"{type(error.cause).__name__}: {error.cause}") from error
                except ray.exceptions.RayError as error:
                    self._replace(reason(error))
            else:
                self._watch()
            if not wait:
                return None

    def _start(self) -> None:
        import ray

        remote = ray.remote(
            num_cpus=RESOURCES["CPU"],
            num_gpus=0,
            scheduling_strategy="SPREAD",
            concurrency_groups={"watch": 1},  # answers while an evaluation goes on
            max_restarts=0,
        )(EvaluatingActor)
        self._actor = remote.remote(*self._arguments)
        self._has_answered = False
        self._listen()

    def _ask(self) -> None:
        self._answer = self._actor.evaluate.remote(self._weights)
        self._asked_at = time.monotonic()
        self._listen()

    def _listen(self) -> None:
        self._heard_at = time.monotonic()
        self._beat = self._actor.is_there.options(concurrency_group="watch").remote()

    def _watch(self) -> None:
        """Replace an actor that does not answer, or whose evaluation does not end."""
        import ray

        now = time.monotonic()
        if ray.wait([self._beat], timeout=0)[0]:
            if not self._has_answered:
                self._has_answered, self._asked_at = True, now  # the request has waited for the start until now
            self._listen()
        if not self._has_answered:
            if now - self._heard_at > START_TIMEOUT_S:
                raise OSError(f"no actor has started within {START_TIMEOUT_S:g} s; the cluster has {room(RESOURCES)}")
        elif now - self._heard_at > SILENCE_TIMEOUT_S:
            self._replace(f"does not answer for {SILENCE_TIMEOUT_S:g} s")
        elif now - self._asked_at > EVALUATION_TIMEOUT_S:
            self._replace(f"has not ended an evaluation within {EVALUATION_TIMEOUT_S:g} s")

    def _replace(self, why: str) -> None:
        self._num_losses += 1
        self._kill()
        if self._num_losses == MAX_LOSSES:
            raise OSError(f"{MAX_LOSSES} actors were lost; the last one {why}")
        self.log(f"the actor that evaluates {why}. Another one evaluates again.")
        self._start()
        self._ask()

    def _kill(self) -> None:
        import ray

        with contextlib.suppress(Exception):  # it has ended by itself
            ray.kill(self._actor)

    def close(self) -> None:
        """End the actor, whatever it does."""
        self._kill()
        if self._is_connected_by_us:
            disconnect()
