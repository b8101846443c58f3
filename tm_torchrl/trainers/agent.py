"""A trained agent: acts, shows its quantiles, drives laps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs import ExplorationType, set_exploration_type

from tm_torchrl.modules import QuantileActor
from tm_torchrl.modules.fractions import FractionProposal, midpoints
from tm_torchrl.trainers.architecture import refuse_other_architecture
from tm_torchrl.trainers.builders import Settings, build_actor, build_task, choose_device
from tm_torchrl.trainers.checkpoint import CheckpointError, Checkpoints
from tm_torchrl.trainers.checks import ACTING, require
from tm_torchrl.trainers.construct import ConfigError, shown
from tm_torchrl.trainers.tasks import Row, Task

_HELP = "write it anew with the run's settings, for instance from a run like it; its checkpoints are untouched"

MOST_SETTINGS = 100_000  # a run has about two hundred

Observation = Tensor | np.ndarray | Mapping[str, Tensor | np.ndarray]


class Agent:
    """A network with the task that it was made for.

    Args:
        settings: of the run.
        task: what it drives.
        actor: the network.
        facts: of the checkpoint that the weights come from.

    Examples:
        >>> from tm_torchrl.trainers import compose_settings
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


def run_settings(folder: str | Path) -> dict[str, Any]:
    """The settings that a run was made with."""
    path = Path(str(folder)) / "config.yaml"
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        _refuse_endless(found)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: {folder} is no run folder (they lie in runs/)") from None
    except OSError:
        raise
    except Exception as error:  # the reader of YAML stumbles over !!timestamp '' with an AttributeError, and so on
        raise ConfigError(f"{path} is damaged: {' '.join(str(error).split())}; {_HELP}") from None
    missing = [name for name in ("env", "objective", "replay") if not isinstance(found, dict) or name not in found]
    if missing:
        raise ConfigError(f"{path} is damaged, or not a run's: no {', '.join(missing)} in it; {_HELP}")
    for name in ("env", "objective", "replay"):
        if not isinstance(found[name], dict):
            raise ConfigError(
                f"{path} is damaged: {name} is {shown(found[name])}, settings of its own belong there; {_HELP}"
            )
    settings: dict[str, Any] = found
    return settings


def _refuse_endless(found: Any) -> None:
    """YAML's references can make settings that hold themselves, or a few lines that are millions of settings."""
    rooms, num_settings = [found], 0
    while rooms:
        room = rooms.pop()
        inner = list(room.values()) if isinstance(room, dict) else room if isinstance(room, list) else []
        rooms += inner
        num_settings += len(inner)
        if num_settings > MOST_SETTINGS:
            raise ValueError(f"it holds more than {MOST_SETTINGS:,} settings")


def _latest(checkpoints: Checkpoints) -> tuple[dict[str, Any], dict[str, Any]]:
    state, manifest = checkpoints.load()
    return state["actor"], manifest
