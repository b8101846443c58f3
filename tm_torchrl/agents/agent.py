"""A trained agent: acts, shows its quantiles, drives laps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs import ExplorationType, set_exploration_type

from tm_torchrl.algorithms.quantile import build_actor
from tm_torchrl.data.saving.architecture import refuse_other_architecture
from tm_torchrl.data.saving.checkpoint import CheckpointError, Checkpoints
from tm_torchrl.modules import QuantileActor
from tm_torchrl.modules.quantiles.fractions import FractionProposal, midpoints
from tm_torchrl.settings.checks import ACTING, require
from tm_torchrl.settings.stored import run_settings
from tm_torchrl.tasks.build import Settings, build_task, choose_device
from tm_torchrl.tasks.task import Row, Task

Observation = Tensor | np.ndarray | Mapping[str, Tensor | np.ndarray]


class Agent:
    """A network with the task that it was made for.

    Args:
        settings: of the run.
        task: what it drives.
        actor: the network.
        facts: of the checkpoint that the weights come from.

    Examples:
        >>> from tm_torchrl.settings import compose_settings
        >>> agent = make_agent(compose_settings(["env.track=oval", "objective.network.hidden_sizes=[8,8]"]))
        >>> int(agent.predict(torch.zeros(184))) in range(12)
        True
        >>> agent.quantiles(torch.zeros(2, 184)).shape
        torch.Size([2, 8, 12])
    """

    def __init__(
        self, settings: Settings, task: Task, actor: QuantileActor, *, facts: Mapping[str, Any] | None = None
    ) -> None:
        self.settings = settings
        self.task = task
        self.actor = actor
        self.facts = dict(facts or {})

    @property
    def device(self) -> torch.device:
        """Of the network."""
        return next(self.actor.parameters()).device

    @torch.no_grad()
    def predict(self, observation: Observation) -> Tensor:
        """The greedy actions for one observation or a batch of them.

        Args:
            observation: ``[*B, F]``, or a mapping with all keys that the network reads.
        """
        batch = self._batch(observation)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            action: Tensor = self.actor(batch)["action"]
        return action

    @torch.no_grad()
    def quantiles(self, observation: Observation, *, fractions: Tensor | None = None) -> Tensor:
        """Quantile values ``[*B, N, A]`` (``[*B, N, S, A]`` for action blocks).

        Args:
            observation: ``[*B, F]``, or a mapping with all keys that the network reads.
            fractions: where to look, ``[N]`` in (0, 1), for networks that take them; midpoints, or what the network
                proposes, by default.
        """
        batch = self._batch(observation)
        module = self.actor.quantile_module
        if fractions is not None and not module.takes_fractions:
            raise ValueError(f"fractions: a {type(module.network).__name__} has fixed ones; leave them out")
        if fractions is None and module.takes_fractions and not isinstance(module.network.source, FractionProposal):
            fractions = midpoints(self.actor.num_fractions)
        if fractions is not None:
            batch["fractions"] = fractions.to(self.device).expand(*batch.batch_size, -1)
        values: Tensor = module(batch)["quantile_values"]
        return values

    def evaluate(self, *, laps: int = 16, seed: int = 0) -> list[Row]:
        """Greedy laps on each track (or episodes): a row of results for each.

        Args:
            laps: on each track, or episodes.
            seed: of the perturbed starts.
        """
        with torch.random.fork_rng(devices=[]):
            return self.task.evaluate(self.actor, num=laps, seed=seed)

    @torch.no_grad()
    def values_of_actions(self, observations: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Along a drive: quantiles of the actions taken ``[T, N]``, and the mean of each action ``[T, A]``.

        For action blocks of their slots' sum, and of the first slot.

        Args:
            observations: ``[T, F]``.
            actions: ``[T]`` or ``[T, S]``.
        """
        values = self.quantiles(observations).cpu()
        taken = torch.as_tensor(actions, dtype=torch.int64)
        if taken.ndim == 1:
            values, taken = values.unsqueeze(2), taken.unsqueeze(1)
        index = taken[:, None, :, None].expand(-1, values.shape[1], -1, -1)
        quantiles = values.gather(3, index).squeeze(3).sum(2)
        return quantiles.sort(1).values.float().numpy(), values[:, :, 0].mean(1).float().numpy()

    def _batch(self, observation: Observation) -> TensorDict:
        keys = self.task.in_keys
        entries = observation if isinstance(observation, Mapping) else {"observation": observation}
        missing = [str(key) for key in keys if key not in entries]
        if missing:
            raise ValueError(f"observation: no {', '.join(missing)}; this network reads {', '.join(map(str, keys))}")
        tensors = {str(key): torch.as_tensor(entries[key], device=self.device) for key in keys}
        own = {"pixels": 3, "observation": 1}
        shape = tensors[str(keys[-1])].shape[: -own[str(keys[-1])]]
        found = {key: value if key == "pixels" else value.float() for key, value in tensors.items()}
        return TensorDict(found, batch_size=shape, device=self.device)


def make_agent(settings: Settings, *, device: str = "cpu") -> Agent:
    """An untrained agent."""
    require(settings, ACTING)
    task = build_task(settings)
    return Agent(settings, task, build_actor(settings, task, device=choose_device(device)))


def load_agent(run: str | Path, *, which: str = "best", device: str = "cpu", env: Settings | None = None) -> Agent:
    """The agent of a run folder.

    Args:
        run: the folder.
        which: ``"best"`` by evaluation, or ``"latest"``; the best of a run without evaluations is its latest.
        device: of the network.
        env: changes to the settings of the environment, such as ``{"track": "oval"}``.
    """
    if which not in ("best", "latest"):
        raise ValueError(f"which={which!r}: 'best' or 'latest' wanted")
    folder = Path(run)
    settings = run_settings(folder)
    if env:
        settings["env"] = {**settings["env"], **env}
    agent = make_agent(settings, device=device)
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        weights, manifest = checkpoints.load_best() if which == "best" else _latest(checkpoints)
    except CheckpointError:
        if which == "latest":
            raise
        weights, manifest = _latest(checkpoints)
    refuse_other_architecture(agent.actor, weights)
    agent.actor.load_state_dict(weights)
    agent.facts = dict(manifest)
    return agent


def _latest(checkpoints: Checkpoints) -> tuple[dict[str, Any], dict[str, Any]]:
    state, manifest = checkpoints.load()
    return state["actor"], manifest
