"""The quantile family: IQN, QR-DQN, FQF and non-crossing quantiles; and DQN, which has one quantile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from tm_torchrl.algorithms.algorithm import Schedules
from tm_torchrl.algorithms.learner import AUTO, PRECISIONS, Learner
from tm_torchrl.algorithms.precision import probe_precision
from tm_torchrl.algorithms.recorded_laps import recorded_steps
from tm_torchrl.algorithms.transitions import blank_transitions, random_transitions
from tm_torchrl.data.replay import Replay
from tm_torchrl.data.sequences import Sequences
from tm_torchrl.data.steps.mini_race import MiniRace
from tm_torchrl.envs.rewards import Potential
from tm_torchrl.evaluation import Diagnostics
from tm_torchrl.modules import QuantileActor
from tm_torchrl.modules.freezing import frozen_vision
from tm_torchrl.modules.quantiles.fractions import FractionProposal, midpoints
from tm_torchrl.objectives.quantile_loss import QuantileLoss
from tm_torchrl.settings.construct import ConfigError, Later, named, refuse_given
from tm_torchrl.settings.schedules import make_schedule
from tm_torchrl.tasks.task import Task

NUM_STATES = 256  # that diagnostics are measured on
Number = float | Sequence[Any]
_GIVEN_TO_ESTIMATORS = ("evaluate", "num_fractions", "is_one_hot", "gamma", "device")


class QuantileAlgorithm:
    """Off-policy learning of quantiles from a replay.

    The parts are functions that wait for the arguments that are only known here: ``construct`` makes them from settings
    with ``_partial_: true``, and ``functools.partial`` does too.

    Args:
        task: What is trained on.
        objective: ``network``, ``num_acting_fractions`` and ``loss``.
        estimator: Makes the value estimator, that is, the targets.
        exploration: Makes the exploring policy of an actor.
        optimizer: Makes the optimiser of parameter groups.
        target_update: Makes the updater of the target network.
        replay: Makes the memory.
        learner: Makes the learner.
        gamma: Discount of one step, a number or a schedule.
        learning_rate: A number or a schedule.
        schedule_speed: Multiplies the frames of all schedules but gamma's.
        precision: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for the faster one in a short probe.
        device: Device of the networks.
        seed: Seeds the replay's sampler.
        log: Takes messages.
    """

    def __init__(
        self,
        task: Task,
        *,
        objective: Mapping[str, Any],
        estimator: Later | partial,
        exploration: Callable[..., Any],
        optimizer: Callable[..., torch.optim.Optimizer],
        target_update: Callable[..., Any],
        replay: Callable[..., Replay | Sequences],
        learner: Callable[..., Learner],
        gamma: Number,
        learning_rate: Number,
        schedule_speed: float = 1.0,
        precision: str = "auto",
        device: torch.device | str = "cpu",
        seed: int = 0,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ConfigError(f"precision={precision!r}: must be auto, {' or '.join(PRECISIONS)}")
        if "loss" not in objective:
            raise ConfigError("objective: has no loss of quantiles; objective=policy is for algorithm=cloning")
        self.task = task
        self.gamma = make_schedule(gamma, name="gamma")
        if not all(0.0 <= value <= 1.0 for _, value in self.gamma.points):
            raise ConfigError(f"gamma={gamma}: must be between 0 and 1")
        self.learning_rate = make_schedule(learning_rate, name="learning_rate", speed=schedule_speed)
        self.schedule_speed = schedule_speed
        self._parts = {
            "objective": objective,
            "loss": objective["loss"],
            "estimator": estimator,
            "optimizer": optimizer,
            "target_update": target_update,
            "learner": learner,
        }
        self.actor = self.make_actor(task, objective=objective, device=device)
        is_auto = precision == "auto"
        self.learner = self._make_learner(self.actor, precision="float32" if is_auto else precision)
        self._try_loss()
        for _, value in self.learning_rate.points:
            self.learner.learning_rate = value  # raises for a value that is not a learning rate
        explorer = exploration(self.actor, speed=schedule_speed)
        self.policy = explorer.module.to(device)
        self._exploration = explorer.schedules
        self.memory = self._make_memory(replay, seed=seed)
        if self.memory.mini_race is not None:
            _fit_mini_race(self.memory.mini_race, task)
        if isinstance(self.memory, Replay) and self.memory.demonstrations is not None:
            self.memory.add_demonstrations(recorded_steps(self.memory.demonstrations.data, task))
        elif getattr(self.learner.loss, "margin", None) is not None:
            raise ConfigError("objective.loss.margin: needs recorded laps; set replay.demonstrations, or leave it out")
        self.diagnostics: Diagnostics | None = None
        if is_auto:
            self.learner.precision = self._faster_precision(log)

    @staticmethod
    def make_actor(task: Task, *, objective: Mapping[str, Any], device: torch.device | str = "cpu") -> QuantileActor:
        """The network as an actor.

        Args:
            task: Says what the network reads and decides.
            objective: ``network`` and ``num_acting_fractions``.
            device: Device of the network.
        """
        arguments = task.network_arguments()
        refuse_given(objective["network"], arguments, name="objective.network")
        with contextlib.closing(task.env_to_look_at()) as env:
            action_spec = env.action_spec
        network = objective["network"](**arguments)
        number = objective["num_acting_fractions"]
        try:
            actor = QuantileActor(network.to(device), spec=action_spec, in_keys=task.in_keys, num_fractions=number)
        except ValueError as error:
            raise ConfigError(f"objective.num_acting_fractions={number}: {error}") from error
        return actor.to(device)

    def schedules(self) -> Schedules:
        """Exploration, learning rate, gamma, the exponent of importance weights, and weights of the reward."""
        found: dict[str, Any] = {
            name: (schedule, partial(setattr, module, "epsilon"))
            for name, (module, schedule) in self._exploration.items()
        }
        found["learning_rate"] = (self.learning_rate, partial(setattr, self.learner, "learning_rate"))
        if len(self.gamma.points) > 1:
            found["gamma"] = (self.gamma, self._set_gamma)
        if self.memory.prioritized is not None:
            beta = make_schedule(
                self.memory.prioritized.beta, name="replay.prioritized.beta", speed=self.schedule_speed
            )
            found["beta"] = (beta, self.memory.set_beta)
        return found

    def metrics(self) -> dict[str, float]:
        """Counts of updates, numbers of the replay, and the loss of held-out transitions if there are any."""
        found = {
            "updates": float(self.learner.num_updates),
            "skipped_updates": float(self.learner.num_skipped),
            **self.memory.metrics(),
        }
        batch = self.memory.sample_test()
        if batch is not None:
            with torch.random.fork_rng(devices=[]):
                found["test_loss"] = float(self.learner.test(batch))
        return found

    def measure(self) -> dict[str, float]:
        """Diagnostics of the network on states from the replay, which stay the same during a run."""
        if self.diagnostics is None:
            states = self.memory.first_states(NUM_STATES)
            if states is None:
                return {}
            self.diagnostics = self._diagnostics_on([states[key] for key in self.actor.in_keys])
        return self.diagnostics.measure()

    def explain(self, observations: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """Quantiles ``[T, N]`` of the actions taken, and the mean value of each action ``[T, A]``.

        Args:
            observations: ``[T, F]``.
            actions: ``[T]`` or ``[T, S]``.
        """
        return explain(self.actor, observations, actions)

    def state_dict(self) -> dict[str, Any]:
        """The states that diagnostics are measured on."""
        return {"diagnostics": {} if self.diagnostics is None else self.diagnostics.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        if state["diagnostics"]:
            self.diagnostics = self._diagnostics_on(state["diagnostics"]["inputs"])
            self.diagnostics.load_state_dict(state["diagnostics"])

    def _diagnostics_on(self, inputs: Sequence[Tensor]) -> Diagnostics:
        return Diagnostics(self.actor.quantile_module.network, list(inputs))

    def _make_learner(self, actor: QuantileActor, *, precision: str = "float32") -> Learner:
        loss = _make_loss(self._parts["loss"], self._parts["estimator"], actor, gamma=self.gamma(0))
        target = self._parts["target_update"](loss)
        return self._parts["learner"](loss, self._parts["optimizer"], target=target, precision=precision)

    def _try_loss(self) -> None:
        """Compute a loss, with another network and so without a trace, to find arguments that it cannot use."""
        device = next(self.actor.parameters()).device
        with torch.random.fork_rng(), torch.no_grad():
            actor = self.make_actor(self.task, objective=self._parts["objective"], device=device)
            loss = self._make_learner(actor).loss
            with named("objective.loss", parameters=getattr(self._parts["loss"], "keywords", ())):
                loss(blank_transitions(self.task, device=device))

    def _make_memory(self, replay: Callable[..., Replay | Sequences], *, seed: int) -> Replay | Sequences:
        kind, states = getattr(replay, "func", replay), self.actor.quantile_module.carried_keys
        has_sequences = isinstance(kind, type) and issubclass(kind, Sequences)
        if states and not has_sequences:
            core = type(self.actor.quantile_module.network.core).__name__
            raise ConfigError(f"objective.network.core={core}: learns from sequences; use replay=sequences")
        if has_sequences and not states:
            raise ConfigError(
                "replay=Sequences: is for networks with memory; use objective.network.core=gru, or replay=uniform"
            )
        if states and self.learner.compile not in (False, AUTO):
            raise ConfigError(
                f"learner.compile={self.learner.compile}: batches of sequences have no fixed number of steps to learn "
                "from, so that each would be compiled anew; use false"
            )
        keys = [key for key in self.actor.in_keys if key not in states]
        further: dict[str, Any] = {"state_keys": states} if states else {}
        if isinstance(kind, type) and issubclass(kind, Replay):
            further["embed"] = frozen_vision(self.actor.quantile_module.network)
        return replay(gamma=self.gamma(0), stored_keys=keys, seed=seed, **further)

    def _set_gamma(self, value: float) -> None:
        self.learner.loss.value_estimator.gamma.fill_(value)
        self.memory.set_gamma(value)

    def _faster_precision(self, log: Callable[[str], None]) -> str:
        """The faster precision for updates of a network of the same shape."""
        device = next(self.actor.parameters()).device
        with torch.random.fork_rng():
            actor = self.make_actor(self.task, objective=self._parts["objective"], device=device)
            size = self.memory.batch_size * (self.memory.length if isinstance(self.memory, Sequences) else 1)
            batch = random_transitions(self.task, size=size, device=device)
            embed = self.memory.embed if isinstance(self.memory, Replay) else None
            if embed is not None:
                for each in (batch, batch["next"]):
                    each["pixels"] = embed(each["pixels"])
            chosen, rates = probe_precision(lambda precision: self._make_learner(actor, precision=precision), batch)
        listed = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
        log(f"precision: {chosen} (updates per CPU second: {listed})")
        return chosen


def explain(actor: QuantileActor, observations: Tensor, actions: Tensor) -> dict[str, Tensor]:
    """Along a drive: quantiles ``[T, N]`` of the actions taken, and the mean value of each action ``[T, A]``.

    For action blocks the quantiles are those of the slots' sum, and the values those of the first slot.

    Args:
        actor: An actor whose network reads only the floats.
        observations: ``[T, F]``.
        actions: ``[T]`` or ``[T, S]``.
    """
    batch = TensorDict({"observation": observations}, [len(observations)])
    values = quantiles_of(actor, actor.quantile_module.with_memory(batch)).cpu()
    taken = actions.to(torch.int64)
    if taken.ndim == 1:
        values, taken = values.unsqueeze(2), taken.unsqueeze(1)
    index = taken[:, None, :, None].expand(-1, values.shape[1], -1, -1)
    quantiles = values.gather(3, index).squeeze(3).sum(2)
    return {"quantiles": quantiles.sort(1).values.float(), "action_values": values[:, :, 0].mean(1).float()}


@torch.no_grad()
def quantiles_of(actor: QuantileActor, batch: TensorDict, *, fractions: Tensor | None = None) -> Tensor:
    """Quantile values ``[*B, N, A]`` (``[*B, N, S, A]`` for action blocks).

    Args:
        actor: Holds the network.
        batch: Observations.
        fractions: Fractions ``[N]`` in (0, 1), for networks that take them; by default midpoints, or those that the
            network proposes.
    """
    module = actor.quantile_module
    if fractions is not None and not module.takes_fractions:
        raise ValueError(f"fractions: {type(module.network).__name__} has fixed fractions; leave them out")
    if fractions is not None and not bool(((fractions > 0) & (fractions < 1)).all() and fractions.numel()):
        raise ValueError(f"fractions={fractions}: must be between 0 and 1, and at least one")
    if fractions is None and module.takes_fractions and not isinstance(module.network.source, FractionProposal):
        fractions = midpoints(actor.num_fractions)
    device = next(actor.parameters()).device
    batch = batch.to(device)
    if fractions is not None:
        batch["fractions"] = fractions.to(device).expand(*batch.batch_size, -1)
    values: Tensor = module(batch)["quantile_values"]
    return values


def _make_loss(
    make: Callable[..., QuantileLoss], estimator: Later, actor: QuantileActor, *, gamma: float
) -> QuantileLoss:
    """The loss with its value estimator."""
    loss = make(actor)
    refuse_given(estimator, _GIVEN_TO_ESTIMATORS, name="estimator")
    with named("estimator", parameters=estimator.keywords):
        loss.make_value_estimator(estimator.func, gamma=gamma, **estimator.keywords)
    return loss


def _fit_mini_race(mini_race: MiniRace, task: Task) -> None:
    """Check that the network sees the clock, and give a potential the layout of the task's floats."""
    layout = task.float_layout()
    if layout is None or not task.sees("clock"):
        raise ConfigError("replay.mini_race: needs the clock, which env.floats hides; use env.floats=true")
    potential: Any = mini_race.potential
    if isinstance(potential, Potential):
        mini_race.potential = partial(potential.potential, layout=layout)
