"""Sequences: a memory for networks that have one (R2D2).

Shapes: B sequences of a batch, L records of each.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer

from tm_torchrl.data.replay import EMBEDDINGS, NO_EMBEDDINGS, Priorities, lanes_of
from tm_torchrl.data.reuse_budget import ReuseBudget
from tm_torchrl.data.steps.sequence_writer import SequenceWriter
from tm_torchrl.data.steps.windows import sum_windows
from tm_torchrl.data.storage.prioritized_sampler import PrioritizedSampler
from tm_torchrl.data.storage.replay_buffer import make_replay_buffer
from tm_torchrl.settings.schedules import make_schedule

STORAGES = ("memory", "memmap")


class Sequences:
    """Overlapping sequences with the state that the policy had at their beginning (R2D2, Kapturowski et al. 2019).

    A row of the buffer is a sequence of L = ``burn_in`` + ``length`` + ``num_steps`` records, as ``SequenceWriter``
    cuts them; each step is learnt from in one of them. TorchRL's sample unit ``Sequence`` expands single steps to
    windows instead, which needs each lane in one piece in the storage; lanes of several workers come in turns.

    A batch ``[B, L]`` has, besides observations and ``action``: ``learning_mask`` (False in the burn-in, for the last
    observations of episodes, and behind the steps to learn from), ``is_init``, the carried state, ("next", "reward") as
    the sum over ``steps_to_next_obs`` steps, ("next", "done" and "terminated") of the last of them, ``index`` and, if
    prioritised, ``priority_weight``. Sums end where an episode does.

    Args:
        capacity: Number of steps, in sequences of ``length``.
        learning_starts: Steps that are stored before learning begins.
        batch_size: Sequences in a batch.
        uses_per_transition: How often each step is learnt from, on average.
        length: Steps of a sequence to learn from.
        burn_in: Steps before them, which only warm the memory up.
        num_steps: Steps that a return sums before it bootstraps.
        cut_at_exploration: Whether a return ends before the first action that was not greedy.
        gamma: Discount of one step; may be set at any time.
        storage: ``"memory"`` or ``"memmap"`` (files). Sequences hold each observation 1 + (burn_in + num_steps) /
            length times.
        prioritized: ``None`` samples uniformly.
        max_share: The priority of a sequence is this share of the largest priority of its steps, plus the rest of their
            mean.
        stored_keys: Keys of observations that the network reads.
        state_keys: Keys of states that it carries.
        seed: Seeds the sampler.
    """

    mini_race = None

    def __init__(
        self,
        *,
        capacity: int,
        learning_starts: int = 0,
        batch_size: int,
        uses_per_transition: float,
        length: int,
        burn_in: int = 0,
        num_steps: int = 1,
        cut_at_exploration: bool = False,
        gamma: float,
        storage: str = "memory",
        prioritized: Priorities | None = None,
        max_share: float = 0.9,  # Kapturowski et al. 2019, section 2.3
        stored_keys: Sequence[NestedKey] = (),
        state_keys: Sequence[NestedKey] = (),
        seed: int = 0,
    ) -> None:
        counts = {"batch_size": batch_size, "length": length, "num_steps": num_steps}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        for name, value in {"burn_in": burn_in, "learning_starts": learning_starts}.items():
            if value < 0:
                raise ValueError(f"{name}={value}: must not be negative")
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < length:
            raise ValueError(f"capacity={capacity}: must be a whole number of at least length={length}")
        if learning_starts > capacity:
            raise ValueError(f"learning_starts={learning_starts}: must be at most capacity={capacity}")
        if storage not in STORAGES:
            why = f"; {NO_EMBEDDINGS}" if storage == EMBEDDINGS else ""
            raise ValueError(f"storage={storage!r}: must be one of {', '.join(STORAGES)}{why}")
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_share={max_share}: must be between 0 and 1")
        self.length, self.burn_in, self.num_steps = length, burn_in, num_steps
        self.batch_size, self.learning_starts = batch_size, learning_starts
        self.cut_at_exploration = cut_at_exploration
        self.gamma = gamma
        self.prioritized = prioritized
        self.max_share = max_share
        self.stored_keys, self.state_keys = tuple(stored_keys), tuple(state_keys)
        self.budget = ReuseBudget(uses_per_transition=uses_per_transition)
        self.writers: dict[range, SequenceWriter] = {}  # by the lanes that they write
        self._writer_of_none = SequenceWriter(
            length, num_before=burn_in, num_after=num_steps, keys=self.stored_keys, state_keys=self.state_keys
        )
        num_rows = capacity // length
        self.buffer: TensorDictReplayBuffer = make_replay_buffer(
            capacity=num_rows,
            batch_size=batch_size,
            sampler="uniform" if prioritized is None else _sampler(num_rows, prioritized),
            storage=storage,
            seed=seed,
        )

    def __len__(self) -> int:
        return len(self.buffer) * self.length

    def contents(self) -> dict[str, TensorDictReplayBuffer]:
        """The buffer, whose contents are saved apart."""
        return {"train": self.buffer}

    def set_frames(self, frames: int) -> None:
        """Do nothing: the capacity is constant."""

    def extend(self, steps: TensorDictBase) -> int:
        """Take the collector's steps ``[N, T]``; returns the number of sequences that they complete."""
        lanes = lanes_of(steps)
        if lanes not in self.writers:
            kept = {of: w for of, w in self.writers.items() if of.stop <= lanes.start or lanes.stop <= of.start}
            self.writers = kept | {lanes: copy.deepcopy(self._writer_of_none)}
        rows = self.writers[lanes].sequences(steps)
        if rows is None:
            return 0
        self.buffer.extend(rows)
        self.budget.earn(len(rows) * self.length)
        return len(rows)

    def num_updates(self) -> int:
        """Updates that are due now; none before enough is stored, and what was stored until then is not made up for."""
        if len(self) < self.learning_starts or not len(self):
            self.budget.num_uses_left = 0.0
            return 0
        return self.budget.num_updates(self.batch_size * self.length)

    def batches(self) -> Iterator[TensorDictBase]:
        """The batches that are due now; each pays for one update."""
        for _ in range(self.num_updates()):
            self.budget.spend(self.batch_size * self.length)
            yield self.sample()

    def sample(self) -> TensorDictBase:
        """A batch ``[B, L]`` to learn from."""
        return self._batch(self.buffer.sample())

    def sample_test(self) -> None:
        """``None``: no steps are held out."""

    def seen(self, batch: TensorDictBase) -> None:
        """Give a prioritised buffer the priorities that the loss wrote into the batch."""
        if self.prioritized is None:
            return
        error, mask = batch[self.buffer.priority_key].squeeze(-1), batch["learning_mask"]
        mean = (error * mask).sum(1) / mask.sum(1).clamp(min=1)
        priority = self.max_share * (error * mask).amax(1) + (1 - self.max_share) * mean
        self.buffer.update_priority(batch["index"][:, 0].cpu(), priority.cpu())

    def first_states(self, num: int) -> TensorDictBase | None:
        """Observations and states ``[num]`` of the first records of stored sequences; ``None`` if there are too few."""
        if len(self.buffer) < num:
            return None
        rows = self.buffer[torch.linspace(0, len(self.buffer) - 1, num).long()]
        first = {key: rows[key][:, 0] for key in self.stored_keys}
        return TensorDict({**first, **{key: rows[key] for key in self.state_keys}}, batch_size=[num])

    def metrics(self) -> dict[str, float]:
        """The number of stored steps."""
        return {"replay_size": float(len(self))}

    def set_gamma(self, gamma: float) -> None:
        """Discount of one step."""
        self.gamma = gamma

    def set_beta(self, beta: float) -> None:
        """Exponent of the importance weights of a prioritised buffer."""
        if self.prioritized is not None:
            self.buffer.sampler.beta = beta

    def state_dict(self) -> dict[str, Any]:
        """Everything but the buffer's contents, which are saved apart."""
        writers = [[of.start, of.stop, writer.state_dict()] for of, writer in self.writers.items()]
        return {"writers": writers, "budget": self.budget.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.writers = {}
        for start, stop, saved in state["writers"]:
            self.writers[range(start, stop)] = copy.deepcopy(self._writer_of_none)
            self.writers[range(start, stop)].load_state_dict(saved)
        self.budget.load_state_dict(state["budget"])

    def _batch(self, rows: TensorDictBase) -> TensorDictBase:
        shape = rows["reward"].shape
        found = TensorDict({key: rows[key] for key in ("action", "is_init", *self.stored_keys)}, batch_size=shape)
        for key in (*self.state_keys, "index", "priority_weight"):
            if key in rows.keys(True):
                value = rows[key].reshape(shape[0], *rows[key].shape[1:])
                found[key] = value.unsqueeze(1).expand(*shape, *value.shape[1:])
        found["learning_mask"] = mask = torch.zeros_like(rows["is_final"])
        learnt = slice(self.burn_in, self.burn_in + self.length)
        mask[:, learnt] = ~rows["is_final"][:, learnt]
        reward, num_used, terminated, done = self._returns(rows)
        found["steps_to_next_obs"] = num_used.unsqueeze(-1)
        found["next"] = TensorDict(
            {name: value.unsqueeze(-1) for name, value in (("reward", reward), ("terminated", terminated))}
            | {"done": done.unsqueeze(-1)},
            batch_size=shape,
        )
        return found

    def _returns(self, rows: TensorDictBase) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """N-step sums, their numbers of steps, and how the last of them ends; behind the steps to learn from 0, 1."""
        windows = sum_windows(
            rows["reward"],
            rows["terminated"],
            rows["is_over"],
            rows["is_greedy"] if self.cut_at_exploration else None,
            num_steps=self.num_steps,
            gamma=self.gamma,
        )
        num = self.burn_in + self.length
        reward = torch.zeros_like(rows["reward"])
        num_used = torch.ones_like(rows["reward"], dtype=torch.int64)
        reward[:, :num], num_used[:, :num] = windows.sums[:, :num, -1], windows.num_used[:, :num]
        last = (torch.arange(reward.shape[1], device=reward.device) + num_used - 1).clamp(max=reward.shape[1] - 1)
        return reward, num_used, rows["terminated"].gather(1, last), rows["is_over"].gather(1, last)


def _sampler(num_rows: int, prioritized: Priorities) -> PrioritizedSampler:
    return PrioritizedSampler(num_rows, prioritized.alpha, make_schedule(prioritized.beta, name="beta")(0))
