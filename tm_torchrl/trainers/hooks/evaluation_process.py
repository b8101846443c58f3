"""Evaluations in a process of their own, on a core that training leaves idle."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from multiprocessing.connection import Connection

import torch
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from tm_torchrl.collectors.processes import background_process, ignore_ending_signals
from tm_torchrl.tasks.task import Row, Task

POLL_S = 0.1
STOP_TIMEOUT_S = 5.0


class EvaluationProcess:
    """Evaluates one set of weights after the other.

    Args:
        task: What is evaluated; is sent to the process.
        actor: Is copied to the process, with weights that change at each request.
        num: Laps on each track, or episodes.
        seed: Seeds the perturbed starts.
    """

    def __init__(self, task: Task, actor: TensorDictModuleBase, *, num: int, seed: int) -> None:
        arguments = task, copy.deepcopy(actor), num, seed
        self._process, self._connection = background_process(_serve, *arguments, policy=actor)

    def request(self, weights: Mapping[str, Tensor]) -> None:
        """Begin an evaluation with these weights; raises ``OSError`` if the process has ended."""
        buffer = io.BytesIO()
        torch.save(dict(weights), buffer)
        self._connection.send_bytes(buffer.getvalue())

    def result(self, *, wait: bool) -> list[Row] | None:
        """The rows of the requested evaluation; ``None`` if they are not there yet.

        Raises ``OSError`` or ``EOFError`` if the process has ended.

        Args:
            wait: Whether to wait for them.
        """
        while not self._connection.poll(POLL_S if wait else 0):
            if not self._process.is_alive() and not self._connection.poll(0):
                raise EOFError(f"the process ended with exit code {self._process.exitcode}")
            if not wait:
                return None
        rows = self._connection.recv()
        if isinstance(rows, str):
            raise OSError(rows)
        found: list[Row] = rows
        return found

    def close(self) -> None:
        """End the process, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.join(STOP_TIMEOUT_S)


def _serve(connection: Connection, task: Task, actor: TensorDictModuleBase, num: int, seed: int) -> None:
    ignore_ending_signals()
    torch.set_num_threads(1)
    while True:
        try:
            weights = connection.recv_bytes()
        except (EOFError, OSError):  # training has ended
            return
        answer: list[Row] | str
        try:
            actor.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
            answer = task.evaluate(actor, num=num, seed=seed)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        try:
            connection.send(answer)
        except OSError:
            return
