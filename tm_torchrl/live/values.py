"""The values of all actions along a lap, as the run's network sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tm_torchrl.agents import load_agent
from tm_torchrl.agents.agent import Agent
from tm_torchrl.envs.race import Race
from tm_torchrl.modules import QuantileActor
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import Track

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the distribution of each action's value


class NoValues(ValueError):
    """The run has no values that could be shown."""


def lap_values(run: Path, track: Track, *, actions: np.ndarray, start: np.ndarray | None) -> dict[str, Any]:
    """Quantiles of the value of every action at each step of a lap, by the run's best network.

    Args:
        run: The run folder.
        track: Track of the lap.
        actions: Actions of the lap, ``[T]`` or ``[T, 5]``.
        start: Saved state of the simulator where it began; ``None`` for the start line.
    """
    agent = load_agent(run)
    _refuse(agent)
    observations = seen_along(agent, track, actions=actions, start=start)
    values = agent.quantiles(observations)  # [T, N, A], of blocks [T, N, S, A]
    if values.ndim == 4:
        values = values[:, :, 0]
    levels = torch.quantile(values.cpu().float(), torch.tensor(LEVELS), dim=1)  # [levels, T, A]
    rounded = np.round(levels.permute(1, 2, 0).numpy().astype(np.float64), 3)
    return {"num_actions": values.shape[-1], "levels": list(LEVELS), "values": rounded.reshape(-1).tolist()}


def seen_along(agent: Agent, track: Track, *, actions: np.ndarray, start: np.ndarray | None) -> torch.Tensor:
    """The observations ``[T, F]`` before the actions of a lap, which is driven again."""
    task: Any = agent.task
    is_block = actions.ndim == 2
    race = Race(
        Simulator(track, num_cars=1),
        action_block=actions.shape[1] if is_block else 1,
        num_previous_actions=task.num_previous_actions,
    )
    if start is not None:
        saved = race.save()
        race.restore({**saved, "world": torch.from_numpy(start).unsqueeze(0)})
    seen = []
    for action in torch.from_numpy(actions.astype(np.int64)):
        seen.append(race.observation[0].clone())
        race.step(action.unsqueeze(0))
    return torch.stack(seen)


def _refuse(agent: Agent) -> None:
    """Raise ``NoValues`` for what has no quantiles of every action, or sees more than the floats."""
    if not isinstance(agent.actor, QuantileActor):
        raise NoValues("only quantile networks have values of every action")
    if agent.task.in_keys != ["observation"] or agent.settings["env"].get("transforms"):
        raise NoValues("this network sees more than the floats, which laps do not keep")
