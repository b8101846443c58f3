"""What runs in a Ray worker process: an environment, a copy of the policy, and TorchRL's collector."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from tm_torchrl.collectors.on_ray.packing import Packed, packed_batch, unpacked
from tm_torchrl.collectors.worker_env import Channel
from tm_torchrl.collectors.worker_group import WorkerGroup
from tm_torchrl.data.steps.n_step import NStep, number_streams_from


class CollectingActor:
    """Collects one batch at each request, and tells meanwhile how many steps it has made.

    Args:
        make_env: Makes the environment.
        policy: Acts.
        worker: Number of the worker, for messages.
        num_lanes: Copies in the environment.
        num_steps: Steps in a batch.
        seed: Seeds this process's random generators.
        writer: Writes transitions, where the replay is not the learner's; with the number of its first stream.
    """

    def __init__(
        self,
        make_env: Callable[[], EnvBase],
        policy: TensorDictModuleBase,
        *,
        worker: int,
        num_lanes: int,
        num_steps: int,
        seed: int,
        writer: tuple[NStep, int] | None = None,
    ) -> None:
        import ray

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  (libraries draw from the global generator)
        context = ray.get_runtime_context()
        session = Path(context.get_temp_dir(), context.get_session_name())
        folder = tempfile.mkdtemp(prefix="tm_torchrl_", dir=session if session.is_dir() else None)
        self.policy, self.thread = policy, 0
        self.writer: NStep | None = None
        if writer is not None:
            self.writer, first_stream = writer
            number_streams_from(first_stream)
        self.channel = Channel(Path(folder), worker)
        self.group = WorkerGroup(
            [make_env],
            [self.channel],
            policy,
            in_workers=False,
            lanes=range(num_lanes),
            num_steps=num_steps,
            device=torch.device("cpu"),
            seed=seed,
            hang_timeout_s=0.0,  # the learner watches
            finished=SimpleQueue(),
        )

    def start(self) -> str:
        """Make the environment; the traceback of the error that prevented it, or nothing."""
        try:
            self.group.start()
        except Exception:
            return self.channel.traceback() or traceback.format_exc()
        return ""

    def process(self) -> int:
        """The number of this process."""
        return os.getpid()

    def collect(self, weights: Packed[str], num_frames: int) -> tuple[Packed[tuple[str, ...]], str]:
        """A batch, and the traceback of the error that prevented it, one of them empty.

        Args:
            weights: The policy's state.
            num_frames: Frames of the training, for rewards on schedules.
        """
        try:
            return packed_batch(self._collect(weights, num_frames)), ""
        except Exception:
            return {}, self._trace()

    def collect_and_write(
        self, weights: Packed[str], num_frames: int, gamma: float
    ) -> tuple[tuple[Packed[tuple[str, ...]], int, str], Packed[tuple[str, ...]]]:
        """A batch without its observations, the number of transitions, and a traceback; apart from it the transitions.

        Args:
            weights: The policy's state.
            num_frames: Frames of the training, for rewards on schedules.
            gamma: Discount of one step.
        """
        assert self.writer is not None
        try:
            steps = self._collect(weights, num_frames)
            self.writer.gamma = gamma
            rows = self.writer.transitions(steps)
            small = steps.select(*(("next", key) for key in ("reward", "done", "terminated")))
            return (packed_batch(small), len(rows), ""), packed_batch(rows)
        except Exception:
            return ({}, 0, self._trace()), {}

    def _collect(self, weights: Packed[str], num_frames: int) -> TensorDictBase:
        self.thread = threading.get_ident()
        self.policy.load_state_dict(unpacked(weights))
        return self.group.collect(num_frames=num_frames)

    def _trace(self) -> str:
        return self.channel.traceback() or traceback.format_exc()

    def num_steps(self) -> int:
        """The number of steps so far; the heartbeat."""
        return self.channel.num_steps()

    def where(self) -> str:
        """The place in the code where collection is at this moment."""
        frame: Any = sys._current_frames().get(self.thread)
        return "" if frame is None else "".join(traceback.format_stack(frame))

    def close(self) -> None:
        """Close the environment, as a game needs."""
        if self.group.collector is not None:
            self.group.collector.shutdown()
