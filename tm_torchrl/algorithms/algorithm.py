"""The protocol of an algorithm: its policy, its memory and its learner.

The loop, the hooks, the checkpoint, the evaluation, the export and the command line know only these protocols. A new
algorithm is a class that composes its parts, a YAML in ``configs/algorithm/``, and its tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from tm_torchrl.data.memory import Memory
from tm_torchrl.settings.schedules import Schedule

Schedules = Mapping[str, tuple[Schedule, Callable[[float], Any]]]


class UpdatesNetworks(Protocol):
    """Learns from batches: a loss, an optimiser, and a target network if there is one."""

    num_updates: int
    num_samples: int

    def update(self, batch: TensorDictBase) -> Mapping[str, Tensor]:
        """Make one update; returns detached scalars for the log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser and counters, as plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        ...


class Algorithm(Protocol):
    """A learning algorithm.

    ``algorithm._target_`` names its class. The constructor takes the task, ``device`` and ``log``, and the settings and
    groups of settings that have the names of its other parameters, such as ``seed``, with all objects constructed
    (``_partial_: true`` gives functions that wait for more arguments). The static method ``make_actor`` takes the task
    and settings in the same way and returns only the actor, which is enough to evaluate a saved run.

    Attributes:
        actor: Acts greedily: reads the task's ``in_keys``, writes ``action``. It is evaluated, saved and exported.
        policy: Acts with exploration. Collectors copy it; attributes ``carried_keys`` of its modules name what it hands
            from one step to the next, such as a hidden state.
        env_maker: Optional: makes the environments of training where the task's own will not do.
        write_results: Optional: called with the run folder and the first row of results after each best evaluation.
    """

    actor: TensorDictModuleBase
    policy: TensorDictModuleBase

    @property
    def memory(self) -> Memory:
        """Turns collected steps into batches."""
        ...

    @property
    def learner(self) -> UpdatesNetworks:
        """Learns from the batches."""
        ...

    def schedules(self) -> Schedules:
        """Numbers that follow the frames played: by name, each schedule and the function that sets its value."""
        ...

    def metrics(self) -> dict[str, float]:
        """Numbers for every row of the log."""
        ...

    def measure(self) -> dict[str, float]:
        """Numbers that take longer to compute, for some rows of the log."""
        ...

    def explain(self, observations: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """Arrays to save beside a lap, such as the values of its actions; may be empty.

        Args:
            observations: ``[T, F]``.
            actions: ``[T]`` or ``[T, S]``.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """State beyond that of the actor, the policy, the memory and the learner."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        ...
