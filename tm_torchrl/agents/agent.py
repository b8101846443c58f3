"""A trained agent: it acts, evaluates its actions and drives laps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import ExplorationType, set_exploration_type

from tm_torchrl.algorithms.make import make_actor
from tm_torchrl.algorithms.quantile import quantiles_of
from tm_torchrl.data.saving.architecture import refuse_other_architecture
from tm_torchrl.data.saving.weights import run_weights
from tm_torchrl.modules import PolicyActor, QuantileActor, SamplingPolicy
from tm_torchrl.modules.carried import carried_keys
from tm_torchrl.settings.device import choose_device
from tm_torchrl.settings.stored import run_settings, upgraded
from tm_torchrl.tasks.task import Row, Settings, Task, make_task

Observation = Tensor | np.ndarray | Mapping[str, Tensor | np.ndarray]


class _Sampled(SamplingPolicy):
    """Draws actions in evaluations too."""

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        with set_exploration_type(ExplorationType.RANDOM):
            return super().forward(tensordict)


class Agent:
    """An actor with the task that it was made for.

    Args:
        settings: Settings of the run.
        task: The task.
        actor: Acts greedily.
        facts: Facts of the checkpoint with the weights.

    Examples:
        >>> from tm_torchrl.settings import compose_settings
        >>> agent = make_agent(compose_settings(["env.track=oval", "objective.network.hidden_sizes=[8,8]"]))
        >>> int(agent.predict(torch.zeros(184))) in range(12)
        True
        >>> agent.quantiles(torch.zeros(2, 184)).shape
        torch.Size([2, 8, 12])
    """

    def __init__(
        self,
        settings: Settings,
        task: Task,
        actor: TensorDictModuleBase,
        *,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.task = task
        self.actor = actor
        self.facts = dict(facts or {})

    def __repr__(self) -> str:
        return f"Agent({self.description})"

    @property
    def description(self) -> str:
        """The task, the number of parameters and the training, in a few words."""
        weights = f"{sum(each.numel() for each in self.actor.parameters()):,} parameters"
        frames = self.facts.get("frames")
        trained = "not trained" if frames is None else f"trained for {frames:,} frames"
        return f"{self.task.label}: {weights}, {trained}"

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.actor.parameters()).device

    @torch.no_grad()
    def predict(self, observation: Observation) -> Tensor:
        """The greedy actions for one observation or a batch of them.

        A network with memory acts as at the start of an episode, unless the mapping has its state, ``memory``. To play
        with it, hand ``agent.actor`` TensorDicts, into which it writes the next state at ("next", "memory").

        Args:
            observation: ``[*B, F]``, or a mapping with all keys that the network reads.
        """
        batch = self._batch(observation)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            action: Tensor = self.actor(batch)["action"]
        return action

    def quantiles(self, observation: Observation, *, fractions: Tensor | None = None) -> Tensor:
        """Quantile values ``[*B, N, A]`` (``[*B, N, S, A]`` for action blocks) of a quantile network.

        Args:
            observation: ``[*B, F]``, or a mapping with all keys that the network reads.
            fractions: Fractions ``[N]`` in (0, 1), for networks that take them; by default midpoints, or those that the
                network proposes.
        """
        return quantiles_of(self._quantile_actor(), self._batch(observation), fractions=fractions)

    def evaluate(self, *, laps: int = 16, seed: int = 0, sampled: bool = False) -> list[Row]:
        """Drive laps on each track, or play episodes; returns a row of results for each track.

        Args:
            laps: Laps on each track, or episodes.
            seed: Seeds the perturbed starts, and what is drawn.
            sampled: Whether actions are drawn from a policy, as in its training, instead of taken greedily.
        """
        if laps < 1:
            raise ValueError(f"laps={laps}: must be at least 1")
        if seed < 0:
            raise ValueError(f"seed={seed}: must be at least 0")
        actor = self.actor
        if sampled:
            if not isinstance(actor, PolicyActor):
                raise ValueError(
                    f"sampled=True: {type(actor).__name__} has no policy to draw actions from; leave it out"
                )
            actor = _Sampled(actor)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            return self.task.evaluate(actor, num=laps, seed=seed)

    def _quantile_actor(self) -> QuantileActor:
        if not isinstance(self.actor, QuantileActor):
            raise TypeError(f"actor={type(self.actor).__name__}: only a quantile network has quantiles")
        return self.actor

    def _batch(self, observation: Observation) -> TensorDict:
        keys = self.task.in_keys
        entries = observation if isinstance(observation, Mapping) else {"observation": observation}
        missing = [str(key) for key in keys if key not in entries]
        if missing:
            reads = ", ".join(map(str, keys))
            raise ValueError(f"observation: has no {', '.join(missing)}; this network reads {reads}")
        given = [*keys, *(key for key in carried_keys(self.actor) if key in entries)]
        tensors = {str(key): torch.as_tensor(entries[key], device=self.device) for key in given}
        num_own = {key: 3 if value.dtype == torch.uint8 else 1 for key, value in tensors.items()}  # images are uint8
        last = str(keys[-1])
        shape = tensors[last].shape[: -num_own[last]]
        num_floats = self.task.network_arguments().get("num_inputs")
        if "observation" in tensors and tensors["observation"].shape[-1:] != (num_floats,):
            raise ValueError(
                f"observation of shape {tuple(tensors['observation'].shape)}: the network reads {num_floats} floats"
            )
        for key, value in tensors.items():
            if value.is_complex():
                raise ValueError(f"{key}: {value.dtype}; must be real numbers")
        found = {key: value if value.dtype == torch.uint8 else value.float() for key, value in tensors.items()}
        for key, value in found.items():
            if not value.isfinite().all():
                raise ValueError(f"{key}: holds values that are not finite")
        return TensorDict(found, batch_size=shape, device=self.device)


def make_agent(settings: Settings, *, device: str = "cpu") -> Agent:
    """An untrained agent.

    Args:
        settings: A complete configuration.
        device: Device of the network.
    """
    settings = upgraded(settings)
    task = make_task(settings)
    return Agent(settings, task, make_actor(settings, task, device=choose_device(device)))


def load_agent(
    run: str | Path,
    *,
    which: str = "best",
    device: str = "cpu",
    env: Settings | None = None,
    trust: Sequence[str] = (),
) -> Agent:
    """The agent of a run folder.

    Args:
        run: The run folder, or the folder of an agent that ``tm-torchrl pull`` fetched.
        which: ``"best"`` by evaluation, or ``"latest"``; without evaluations both are the latest.
        device: Device of the network.
        env: Changes to the settings of the environment, such as ``{"track": "oval"}``.
        trust: Other packages whose classes the run's settings may name.
    """
    if which not in ("best", "latest"):
        raise ValueError(f"which={which!r}: must be 'best' or 'latest'")
    folder = Path(run)
    settings = run_settings(folder, trust=trust)
    if env:
        known = settings["env"]  # a game has no list of tracks that could be null
        settings["env"] = {**known, **{key: value for key, value in env.items() if value is not None or key in known}}
    agent = make_agent(settings, device=device)
    weights, manifest = run_weights(folder, which="best" if which == "best" else "latest")
    refuse_other_architecture(agent.actor, weights)
    agent.actor.load_state_dict(weights)
    agent.facts = {"frames": manifest["frames"], **manifest["facts"]}
    return agent
