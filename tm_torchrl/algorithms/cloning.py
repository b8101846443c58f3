"""Behaviour cloning: a network learns from recorded laps to do what their driver did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tm_torchrl.algorithms.algorithm import Schedules
from tm_torchrl.algorithms.learner import PRECISIONS, Learner
from tm_torchrl.algorithms.ppo import Number, PPOAlgorithm, refuse_memory
from tm_torchrl.algorithms.quantile import QuantileAlgorithm, explain
from tm_torchrl.algorithms.recorded_laps import opened
from tm_torchrl.data.demonstrations.memory import Demonstrations
from tm_torchrl.modules import QuantileActor
from tm_torchrl.modules.policy_value import PolicyActor
from tm_torchrl.objectives.cloning import CloningLoss
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.nearest import nearest_name
from tm_torchrl.settings.schedules import make_schedule
from tm_torchrl.tasks.task import Task

STEP_MS = 50
VALUE_TEMPERATURE = 0.03  # Vieillard et al. 2020


class CloningAlgorithm:
    """Supervised learning of actions from laps that ``tm-torchrl record`` wrote; nothing is driven but evaluations.

    Frames count what is learnt from. The network is that of ``objective``: a quantile network, whose values become
    logits, or the policy of ``objective=policy``; a run of it can start runs of the same network (``warm_start``).

    Args:
        task: What is evaluated, and what the laps must be of.
        data: The folder of recorded laps, or several.
        objective: ``network``, and ``num_acting_fractions`` for quantile networks.
        demonstrations: Makes the memory.
        optimizer: Makes the optimiser of parameter groups.
        learner: Makes the learner.
        learning_rate: A number or a schedule.
        offsets_ms: Milliseconds after the present step whose actions are foretold; the first must be 0.
        offset_weights: The weight of each offset in the loss.
        shuffled_floats: Fields of the floats that each frame takes from another one, so that the network cannot
            use them: such as the previous actions, if it learns from them to repeat itself. They also tell where the
            wheels are, which turn with a delay.
        temperature: Divides the values or logits: the difference of two values is this times that of two logits.
            ``None`` for 0.03 with a quantile network, whose differences are then of the size that reinforcement
            learning gives them (Munchausen targets), and 1 with a policy, whose probabilities are then the driver's.
        label_temperature: Seconds, for laps whose driver weighed its actions: one that costs this much more than the
            chosen one counts 1 / e as much. Near 0 for the chosen one alone.
        class_balance: Exponent of the weights of actions: 0 for equal weights, 1 for weights by which each action
            counts the same, however rare it is.
        label_smoothing: Share of a label that is spread over all actions.
        schedule_speed: Multiplies the frames of all schedules.
        precision: ``"float32"`` or ``"bfloat16"``; ``"auto"`` is float32.
        device: Device of the network.
        seed: Seeds the order of the frames.
        log: Takes messages.
    """

    def __init__(
        self,
        task: Task,
        *,
        data: str | Path | Sequence[str | Path] | None,
        objective: Mapping[str, Any],
        demonstrations: Callable[..., Demonstrations],
        optimizer: Callable[..., torch.optim.Optimizer],
        learner: Callable[..., Learner],
        learning_rate: Number,
        offsets_ms: Sequence[int] = (0,),
        offset_weights: Sequence[float] = (1.0,),
        shuffled_floats: Sequence[str] = (),
        temperature: float | None = None,
        label_temperature: float = 0.002,
        class_balance: float = 0.0,
        label_smoothing: float = 0.0,
        schedule_speed: float = 1.0,
        precision: str = "auto",
        device: torch.device | str = "cpu",
        seed: int = 0,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ConfigError(f"precision={precision!r}: must be auto, {' or '.join(PRECISIONS)}")
        if len(offsets_ms) != len(offset_weights):
            raise ConfigError(
                f"algorithm.offset_weights={list(offset_weights)}: must have {len(offsets_ms)} entries, one for each "
                f"of offsets_ms={list(offsets_ms)}"
            )
        if any(offset % STEP_MS for offset in offsets_ms):
            raise ConfigError(f"algorithm.offsets_ms={list(offsets_ms)}: must be multiples of {STEP_MS}")
        if not 0.0 <= class_balance <= 1.0:
            raise ConfigError(f"algorithm.class_balance={class_balance}: must be between 0 and 1")
        self.learning_rate = make_schedule(learning_rate, name="learning_rate", speed=schedule_speed)
        paths: Sequence[Any] = data if data and isinstance(data, (list, tuple)) else [data]
        folders = [opened(each, task) for each in paths]
        self.memory = demonstrations(
            folders,
            offsets=[offset // STEP_MS for offset in offsets_ms],
            keys=task.in_keys,
            shuffled=columns_of(shuffled_floats, task),
            device=device,
            seed=seed,
        )
        self.actor = self.make_actor(task, objective=objective, device=device)
        self.policy = self.actor
        if temperature is None:
            temperature = VALUE_TEMPERATURE if isinstance(self.actor, QuantileActor) else 1.0
        num_actions = task.network_arguments()["num_actions"]
        counts = torch.from_numpy(self.memory.action_counts(num_actions))
        loss = CloningLoss(
            self._network,
            num_actions=num_actions,
            in_keys=task.in_keys,
            offset_weights=offset_weights,
            temperature=temperature,
            label_temperature=label_temperature,
            class_weights=class_weights_of(counts, class_balance) if class_balance else None,
            label_smoothing=label_smoothing,
        ).to(device)
        precision = "float32" if precision == "auto" else precision
        self.learner = learner(loss, optimizer, target=None, precision=precision)
        for _, value in self.learning_rate.points:
            self.learner.learning_rate = value  # raises for a value that is not a learning rate
        laps = sum(folder.num_laps for folder in folders)
        log(f"{laps:,} laps; {len(self.memory):,} frames to learn from, {len(self.memory.test_frames):,} to test on")

    @staticmethod
    def make_actor(
        task: Task, *, objective: Mapping[str, Any], device: torch.device | str = "cpu"
    ) -> QuantileActor | PolicyActor:
        """The network as an actor.

        Args:
            task: Says what the network reads and decides.
            objective: ``network``, and ``num_acting_fractions`` for quantile networks.
            device: Device of the network.
        """
        make = QuantileAlgorithm.make_actor if "num_acting_fractions" in objective else PPOAlgorithm.make_actor
        actor: Any = make(task, objective=objective, device=device)
        refuse_memory(actor.quantile_module.network if isinstance(actor, QuantileActor) else actor.network)
        return actor

    @property
    def _network(self) -> Any:
        return self.actor.quantile_module.network if isinstance(self.actor, QuantileActor) else self.actor.network

    def schedules(self) -> Schedules:
        """The learning rate."""
        return {"learning_rate": (self.learning_rate, partial(setattr, self.learner, "learning_rate"))}

    def metrics(self) -> dict[str, float]:
        """Counts of updates, epochs, and the share of right actions, also of laps that are never learnt from."""
        found = {
            "updates": float(self.learner.num_updates),
            "skipped_updates": float(self.learner.num_skipped),
            **self.memory.metrics(),
        }
        batch = self.memory.test_batch()
        if batch is not None:
            with torch.random.fork_rng(devices=[]):
                found["test_loss"] = float(self.learner.test(batch))
            found |= self.memory.by_offset("test_accuracy", batch["diagnostics"][0])
        return found

    def measure(self) -> dict[str, float]:
        """Nothing takes longer than ``metrics``."""
        return {}

    @torch.no_grad()
    def explain(self, observations: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """Along a drive: quantiles and values of a quantile network, the probabilities of a policy's actions.

        Args:
            observations: ``[T, F]``.
            actions: ``[T]`` or ``[T, S]``.
        """
        if isinstance(self.actor, QuantileActor):
            return explain(self.actor, observations, actions)
        device = next(self.actor.parameters()).device
        probabilities = self.actor.network.logits(observations.to(device)).softmax(-1)
        return {"action_probabilities": (probabilities if actions.ndim == 1 else probabilities[:, 0]).cpu()}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the parts hold everything."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""


def columns_of(names: Sequence[str], task: Task) -> list[int]:
    """The columns of fields of the floats.

    Args:
        names: Names of fields.
        task: Has the layout.
    """
    layout = task.float_layout()
    assert layout is not None
    for name in names:
        if name not in layout.names():
            raise ConfigError(
                f"algorithm.shuffled_floats: {name!r} is not a field of the observation"
                f"{nearest_name(str(name), layout.names())}"
            )
    return [column for name in names for column in range(layout.size)[layout[name]]]


def class_weights_of(counts: Tensor, exponent: float) -> Tensor:
    """The weight of each class, so that frames have a mean weight of 1; 0 for classes that never come.

    Args:
        counts: How often each class comes.
        exponent: 0 for equal weights, 1 for weights by which each class counts the same.

    Examples:
        >>> class_weights_of(torch.tensor([3, 1, 0]), 1.0)  # 3 times 2/3 and once 2 are 4 frames
        tensor([0.6667, 2.0000, 0.0000])
    """
    weights = torch.where(counts > 0, counts.clamp_min(1).double().pow(-exponent), 0.0)
    return (weights * counts.sum() / (weights * counts).sum()).float()
