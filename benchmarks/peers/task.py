"""A cell of the suite for another library: environments through gymnasium, evaluated and recorded as ours are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict.nn import TensorDictModule
from torch import Tensor, nn

import tm_torchrl  # noqa: F401 - registers the simulator with gymnasium
from tm_torchrl.experiments.run_process import RUN, write_result
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.tasks.gymnasium import GymnasiumTask
from tm_torchrl.tasks.task import make_task
from tm_torchrl.tasks.trackmania import TrackManiaTask
from tm_torchrl.trainers.malloc import resident_mb

Act = Callable[[np.ndarray], np.ndarray]


class PeerTask:
    """What another library's learner trains on, and where its evaluations are written to.

    CPU seconds are those of training alone: evaluations are left out, as in ours. Floats of the simulator come
    normalised by the constants that our networks have as their first layer.
    """

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        self.settings = settings
        self.task = make_task(settings)
        self.name = str(settings["environment"])
        self.seed = int(settings["seed"])
        self.total_frames = int(settings["total_frames"])
        self.every_frames = int(settings["evaluation"]["every_frames"])
        self.num = int(settings["evaluation"]["num"])
        self.evaluation_seed = int(settings["evaluation"]["seed"])
        self.target_score: float | None = settings["evaluation"]["target_score"]
        self.is_over = False
        self.folder = folder
        self.run = RunFolder(folder / RUN)
        arguments = self.task.network_arguments()
        if arguments["num_inputs"] is None:
            raise ValueError(f"{self.name}: it shows images; other libraries have networks for floats only here")
        self.num_inputs, self.num_actions = int(arguments["num_inputs"]), int(arguments["num_actions"])
        self.normalize: nn.Module | None = arguments["normalize"]
        self._next = self.every_frames
        self._watched_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Start the clocks of training."""
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    def make(self) -> gymnasium.Env[Any, Any]:
        """Make one environment to train in."""
        task = self.task
        if isinstance(task, GymnasiumTask):
            return gymnasium.make(task.name, **(task.options or {}))
        assert isinstance(task, TrackManiaTask)
        env: gymnasium.Env[Any, Any] = gymnasium.make(
            "tm_torchrl/TrackMania-v0",
            tracks=list(task._tracks.values()),
            num_previous_actions=task.num_previous_actions,
            reward=None if task.reward is None else task.reward.terms(),
            limits=task.limits,
            starts=task.starts,
            randomisation=task.randomisation,
        )
        assert env.observation_space.shape is not None
        space = gymnasium.spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)
        return gymnasium.wrappers.TransformObservation(env, self.normalized, space)

    def normalized(self, seen: np.ndarray) -> np.ndarray:
        """Floats as the network sees them."""
        if self.normalize is None:
            return seen
        found: np.ndarray = self.normalize(torch.from_numpy(np.asarray(seen, np.float32))).numpy()
        return found

    def after_step(self, steps: int, *, updates: int, act: Act) -> bool:
        """Evaluate if it is due; returns whether training goes on."""
        self.is_over = self.is_over or steps >= self.total_frames
        if steps < self._next and not self.is_over:
            return True
        while self._next <= steps:
            self._next += self.every_frames
        begin = time.process_time()

        def chosen(seen: Tensor) -> Tensor:
            return torch.from_numpy(np.asarray(act(self.normalized(seen.numpy())), np.int64))

        with torch.random.fork_rng(devices=[]):
            policy = TensorDictModule(chosen, in_keys=["observation"], out_keys=["action"])
            rows = self.task.evaluate(policy, num=self.num, seed=self.evaluation_seed)
        self._watched_s += time.process_time() - begin
        cpu_s = time.process_time() - self._cpu_started - self._watched_s
        seconds = time.perf_counter() - self._started
        for row in rows:
            found = {key: value for key, value in row.items() if key != "laps"}
            self.run.add_evaluation({**found, "frames": steps, "seconds": seconds, "cpu_s": cpu_s, "updates": updates})
        self.is_over = self.is_over or (self.target_score is not None and self.task.score(rows)[0] >= self.target_score)
        return not self.is_over

    def finish(self, network: nn.Module) -> None:
        """Write the result."""
        parameters = sum(parameter.numel() for parameter in network.parameters())
        write_result(self.folder, {"parameters": parameters, "memory_mb": resident_mb(), "frames": self.total_frames})
