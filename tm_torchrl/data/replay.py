"""Replay as the loop uses it: steps in, batches out, and how many updates they pay for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

from tensordict import TensorDictBase
from torchrl.data import TensorDictReplayBuffer

from tm_torchrl.data import (
    CapacitySchedule,
    HeldOut,
    NStep,
    ReuseBudget,
    TensorDictPrioritizedReplayBuffer,
    move_contents,
)

Buffer: TypeAlias = "TensorDictReplayBuffer | TensorDictPrioritizedReplayBuffer"


class Replay:
    """A buffer of n-step transitions that grows by a schedule and holds some of them out for testing.

    Args:
        make_buffer: builds a buffer of a given capacity.
        n_step: makes transitions of the collector's steps; copied for each group of lanes that comes in batches of its
            own, as the workers' do that drive on their own.
        capacity: and the size from which learning goes on, by frames.
        budget: how often each transition is used.
        batch_size: of samples.
        held_out: which transitions only test the loss; ``None`` for none.
    """

    def __init__(
        self,
        make_buffer: Callable[[int], Buffer],
        *,
        n_step: NStep,
        capacity: CapacitySchedule,
        budget: ReuseBudget,
        batch_size: int,
        held_out: HeldOut | None = None,
    ) -> None:
        self.make_buffer = make_buffer
        self.n_step = n_step
        self.writers: dict[range, NStep] = {}  # by the lanes that they write
        self.capacity = capacity
        self.budget = budget
        self.batch_size = batch_size
        self.held_out = held_out
        stage = capacity(0)
        self.learning_starts = stage.learning_starts
        self.buffer = make_buffer(stage.capacity)
        self.test_buffer = None if held_out is None else make_buffer(max(1, stage.capacity // 10))

    def __len__(self) -> int:
        return len(self.buffer)

    @property
    def buffers(self) -> dict[str, Buffer]:
        """Those with contents to save, by name."""
        return {"train": self.buffer} | ({} if self.test_buffer is None else {"test": self.test_buffer})

    def set_frames(self, frames: int) -> None:
        """Grow where the schedule says so."""
        stage = self.capacity(frames)
        self.learning_starts = stage.learning_starts
        if stage.capacity > self.buffer.storage.max_size:
            larger = self.make_buffer(stage.capacity)
            move_contents(self.buffer, larger)
            self.buffer = larger

    def extend(self, steps: TensorDictBase) -> int:
        """Take the collector's steps ``[N, T]``; returns the number of transitions to learn from.

        Where ("collector", "lane") tells lanes, batches of different lanes may come in any order.
        """
        transitions = self._writer(lanes_of(steps)).transitions(steps)
        if self.held_out is not None and len(transitions):
            transitions, test = self.held_out.split(transitions)
            if len(test) and self.test_buffer is not None:
                self.test_buffer.extend(test)
        if len(transitions):
            self.buffer.extend(transitions)
            self.budget.earn(len(transitions))
        return len(transitions)

    def _writer(self, lanes: range) -> NStep:
        """Theirs alone; where lanes are grouped anew, the pending steps of the groups before are given up."""
        if lanes not in self.writers:
            kept = {of: w for of, w in self.writers.items() if of.stop <= lanes.start or lanes.stop <= of.start}
            self.writers = kept | {lanes: copy.deepcopy(self.n_step)}
        return self.writers[lanes]

    def num_updates(self) -> int:
        """Updates that are due now; none before enough is stored, and what was stored until then is not made up for."""
        if len(self.buffer) < self.learning_starts:
            self.budget.num_uses_left = 0.0
            return 0
        return self.budget.num_updates(self.batch_size)

    def sample(self) -> TensorDictBase:
        """A batch to learn from; pays for one update."""
        self.budget.spend(self.batch_size)
        batch: TensorDictBase = self.buffer.sample()
        return batch

    def sample_test(self) -> TensorDictBase | None:
        """A batch of held-out transitions; ``None`` while there are too few."""
        if self.test_buffer is None or len(self.test_buffer) < self.batch_size:
            return None
        batch: TensorDictBase = self.test_buffer.sample()
        return batch

    def update_priorities(self, batch: TensorDictBase) -> None:
        """Tell a prioritised buffer what the loss wrote into the batch."""
        if isinstance(self.buffer, TensorDictPrioritizedReplayBuffer):
            self.buffer.update_tensordict_priority(batch)

    def set_gamma(self, gamma: float) -> None:
        """Discount of one step, of the transitions that are written from now on."""
        for writer in (self.n_step, *self.writers.values()):
            writer.gamma = gamma

    def set_beta(self, beta: float) -> None:
        """Exponent of the importance weights of a prioritised buffer."""
        if isinstance(self.buffer, TensorDictPrioritizedReplayBuffer):
            self.buffer.sampler.beta = beta

    def state_dict(self) -> dict[str, Any]:
        """Everything but the buffers' contents, which are saved apart."""
        return {
            "writers": [[of.start, of.stop, writer.get_extra_state()] for of, writer in self.writers.items()],
            "budget": self.budget.state_dict(),
            "held_out": {} if self.held_out is None else self.held_out.state_dict(),
            "capacity": self.buffer.storage.max_size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if state["capacity"] != self.buffer.storage.max_size:
            self.buffer = self.make_buffer(state["capacity"])
        self.writers = {}
        for start, stop, saved in state.get(
            "writers", []
        ):  # older runs had one for all, whose pending steps are given up
            self._writer(range(start, stop)).set_extra_state(saved)
        self.budget.load_state_dict(state["budget"])
        if self.held_out is not None:
            self.held_out.load_state_dict(state["held_out"])


def lanes_of(steps: TensorDictBase) -> range:
    """The numbers of the lanes of a batch ``[N, T]``; from 0 where ("collector", "lane") does not tell them."""
    lane = steps.get(("collector", "lane"), None)
    first = 0 if lane is None or not lane.numel() else int(lane[0, 0])
    return range(first, first + steps.shape[0])
