"""The algorithms as objects that train, evaluate, predict, save and load."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from tm_torchrl.agents.agent import Agent, Observation, load_agent, make_agent
from tm_torchrl.settings.nearest import nearest_name
from tm_torchrl.settings.tree import compose_settings
from tm_torchrl.tasks.task import Row
from tm_torchrl.trainers.run import train
from tm_torchrl.trainers.summary import Summary

Self = TypeVar("Self", bound="TrainableAgent")


class TrainableAgent:
    """An agent that trains itself.

    Args:
        task: A track (``"hillside"``, a ``.npz`` file) or a gymnasium id (``"CartPole-v1"``); ``None`` for the default
            track.
        settings: Overrides as on the command line, such as ``["learning_rate=1e-3", "seed=1"]``.
        experiment: A preset of ``configs/experiment``, such as ``"cartpole_iqn"``.
        folder: The run folder; ``runs/TASK/TIME`` by default.

    Examples:
        >>> from tm_torchrl import IQN
        >>> agent = IQN("CartPole-v1", settings=["objective.network.hidden_sizes=[8,8]"])
        >>> int(agent.predict([0.0, 0.0, 0.0, 0.0])) in (0, 1)
        True
    """

    choices: tuple[str, ...] = ("objective=iqn",)  # of the algorithm

    def __init__(
        self,
        task: str | Path | None = None,
        *,
        settings: Sequence[str] = (),
        experiment: str | None = None,
        folder: str | Path | None = None,
    ) -> None:
        overrides = [] if experiment is None else [f"experiment={experiment}"]
        overrides += self.choices
        if task is not None:
            overrides += _task_overrides(str(task))
        self.settings: dict[str, Any] = compose_settings([*overrides, *settings])
        self.folder = None if folder is None else Path(folder)
        self.agent: Agent = make_agent(self.settings)
        self.summary: Summary | None = None

    def __repr__(self) -> str:
        folder = "" if self.folder is None else f", folder={str(self.folder)!r}"
        return f"{type(self).__name__}({self.agent.description}{folder})"

    def train(self: Self, *, frames: int | None = None, minutes: float | None = None, is_quiet: bool = False) -> Self:
        """Train, or continue training, until a number of frames is played or the time is over.

        Args:
            frames: Total frames of this agent; the preset's number by default.
            minutes: Total minutes of this agent; ``None`` for no limit.
            is_quiet: Whether to show nothing.
        """
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes={minutes}: must be positive, or None for no limit")
        if frames is not None and frames < 1:
            raise ValueError(f"frames={frames}: must be at least 1, or None for the preset's number")
        settings = {**self.settings, "max_minutes": minutes}
        if frames is not None:
            settings["total_frames"] = frames
        if self.summary is not None:
            settings["resume"] = str(self.summary.folder)
        settings["checkpoint"] = {**settings["checkpoint"], "keep_replay": True}  # training may be continued
        self.summary = train(settings, folder=self.folder, is_quiet=is_quiet)
        self.folder, self.agent = self.summary.folder, self.summary.agent
        return self

    def evaluate(self, *, laps: int = 16, seed: int = 0) -> Row:
        """The result of greedy laps (or episodes) on the first track: ``finish_rate``, ``best_lap_s``, ...

        Args:
            laps: Number of laps, or of episodes.
            seed: Seeds the perturbed starts.
        """
        return self.agent.evaluate(laps=laps, seed=seed)[0]

    def predict(self, observation: Observation | Sequence[float]) -> Tensor:
        """The greedy actions for one observation or a batch of them.

        Args:
            observation: Floats ``[*B, F]``, or a mapping with all keys that the network reads.
        """
        if not isinstance(observation, (Tensor, np.ndarray, Mapping)):
            observation = np.asarray(observation, np.float32)
        return self.agent.predict(observation)

    def quantiles(self, observation: Observation) -> Tensor:
        """Quantile values ``[*B, N, A]``.

        Args:
            observation: Floats ``[*B, F]``, or a mapping with all keys that the network reads.
        """
        return self.agent.quantiles(observation)

    def save(self, folder: str | Path) -> Path:
        """Copy the run folder without its replay, for ``load``.

        Args:
            folder: The copy; must not exist.
        """
        if self.summary is None:
            raise RuntimeError("save(): this agent has not been trained; call train() first")
        return Path(shutil.copytree(self.summary.folder, folder, ignore=shutil.ignore_patterns("replay")))

    @classmethod
    def load(cls: type[Self], folder: str | Path) -> Self:
        """The best agent of a run folder.

        Args:
            folder: The folder of a run of this algorithm.
        """
        agent = load_agent(folder)
        found = cls.__new__(cls)
        found.settings, found.agent = dict(agent.settings), agent
        found.folder, found.summary = Path(folder), None
        return found


class IQN(TrainableAgent):
    """Implicit quantile networks."""


class QRDQN(TrainableAgent):
    """Quantile regression DQN."""

    choices = ("objective=qrdqn",)


class FQF(TrainableAgent):
    """Fully parameterized quantile functions."""

    choices = ("objective=fqf",)


class PPO(TrainableAgent):
    """Proximal policy optimisation; it has no quantiles."""

    choices = ("algorithm=ppo",)


class GRPO(TrainableAgent):
    """Group relative policy optimisation; it has no quantiles."""

    choices = ("algorithm=grpo",)


class DPO(TrainableAgent):
    """Direct preference optimisation; it has no quantiles."""

    choices = ("algorithm=dpo",)


def _task_overrides(task: str) -> list[str]:
    import gymnasium

    from tm_torchrl.tracks import BUILTIN_TRACKS

    if task in BUILTIN_TRACKS or task.endswith(".npz"):
        return ["env=trackmania", f"env.track={task}"]
    if task in gymnasium.registry or ":" in task:
        return ["env=gym", f"env.name={task}"]
    hint = nearest_name(task, BUILTIN_TRACKS)
    raise ValueError(f"task={task!r}: must be a track, a .npz file or a gymnasium id{hint}")
