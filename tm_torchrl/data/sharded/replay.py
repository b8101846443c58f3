"""The learner's side of a replay that is shared out over shards.

Shapes: B transitions of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.envs.transforms import Transform

from tm_torchrl.data.replay import Priorities, check_sizes, chosen_storage
from tm_torchrl.data.reuse_budget import ReuseBudget
from tm_torchrl.data.sharded.saving import SavedShard
from tm_torchrl.data.sharded.shard import ReplayShard
from tm_torchrl.data.sharded.shards import ReplayLostError, Shard, ShardHandle, Shards
from tm_torchrl.data.steps.mini_race import MiniRace
from tm_torchrl.data.steps.n_step import NStep
from tm_torchrl.settings.schedules import make_schedule

ROWS = "rows"  # where a batch of steps says which transitions its worker has written
PRIORITY = "td_error"


@dataclass(frozen=True)
class Rows:
    """Transitions that a worker has written, still in its memory.

    Args:
        data: What a shard reads them from.
        num: Their number.
    """

    data: Any
    num: int


class ShardedReplay:
    """Transitions in shards that are elsewhere, for more of them than one machine can hold.

    Workers write n-step transitions beside their environments. The learner tells a shard, each in turn, to read them
    from the worker's memory, so that images travel once, and only drawn batches come to the learner. A batch is drawn
    as from one buffer that has all transitions: the learner draws places in the running sum of all masses, and each
    shard finds those that are its own. New transitions have the highest priority so far, of all shards.

    A shard has one write on its way at most. One that ends, or does not answer for ``hang_timeout_s``, is reported and
    replaced by an empty one, and its transitions are lost; meanwhile batches come from the others.

    Args:
        num_shards: Processes that hold the transitions.
        capacity: Number of transitions of all shards together.
        learning_starts: Transitions that are stored before learning begins.
        batch_size: Transitions in a batch.
        uses_per_transition: How often each transition is learnt from, on average.
        num_steps: Steps that a return sums before it bootstraps.
        cut_at_exploration: Whether a return ends before the first action that was not greedy.
        gamma: Discount of one step.
        storage: ``"memory"``, ``"memmap"`` (files), ``"frames"`` (each image once), or ``"auto"``: frames for images.
        mini_race: Draws a horizon for each sample.
        augmentation: Changes sampled images.
        prioritized: ``None`` samples uniformly.
        resources: What a shard needs on its node, by name.
        hang_timeout_s: How long a shard may take to answer.
        stored_keys: Keys that the network reads, stored at both ends of a transition.
        seed: Seeds the sampler.
    """

    demonstrations = None

    def __init__(
        self,
        *,
        num_shards: int,
        capacity: int,
        learning_starts: int = 0,
        batch_size: int,
        uses_per_transition: float,
        num_steps: int = 1,
        cut_at_exploration: bool = False,
        gamma: float,
        storage: str = "auto",
        mini_race: MiniRace | None = None,
        augmentation: Transform | None = None,
        prioritized: Priorities | None = None,
        resources: Mapping[str, float] | None = None,
        hang_timeout_s: float = 30.0,
        stored_keys: Sequence[NestedKey] = (),
        seed: int = 0,
    ) -> None:
        for name, count in (("num_shards", num_shards), ("batch_size", batch_size)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"{name}={count}: must be a whole number of at least 1")
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < num_shards:
            raise ValueError(f"capacity={capacity}: must be a whole number of at least num_shards={num_shards}")
        check_sizes(capacity, learning_starts=learning_starts, batch_size=batch_size)
        if not hang_timeout_s > 0:
            raise ValueError(f"hang_timeout_s={hang_timeout_s}: must be positive")
        storage = chosen_storage(storage, stored_keys=stored_keys, augmentation=augmentation)
        self.resources = dict(resources or {})
        for name, amount in self.resources.items():
            if not amount >= 0:
                raise ValueError(f"resources={self.resources}: {name} must not be negative")
        self.num_shards, self.learning_starts, self.batch_size = num_shards, learning_starts, batch_size
        self.n_step = NStep(
            num_steps,
            gamma=gamma,
            cut_at_exploration=cut_at_exploration,
            frame_ids=storage == "frames",
            extra_keys=stored_keys,
        )
        self.budget = ReuseBudget(uses_per_transition=uses_per_transition)
        self.mini_race, self.augmentation, self.prioritized = mini_race, augmentation, prioritized
        if mini_race is not None and mini_race.seed is None:
            mini_race.generator.manual_seed(seed)
        self.hang_timeout_s = hang_timeout_s
        self.beta = 0.0 if prioritized is None else make_schedule(prioritized.beta, name="beta")(0)
        self.highest = 1.0  # priority so far; that of the first transitions
        self.make_shard = partial(
            ReplayShard,
            -(-capacity // num_shards),
            storage=storage,
            alpha=None if prioritized is None else prioritized.alpha,
        )
        self._generator = torch.Generator().manual_seed(seed)
        self._shards: Shards | None = None
        self._drawn_from: list[Shard] = []  # the last batch
        self._turn = 0

    def __len__(self) -> int:
        return 0 if self._shards is None else sum(shard.state.num for shard in self._shards.all)

    @property
    def shards(self) -> Shards:
        """The shards; there are none before ``open`` and after ``close``."""
        if self._shards is None:
            raise ReplayLostError("the replay has no shards: its collector was not started, or has ended")
        return self._shards

    def open(self, start: Callable[[], ShardHandle], *, log: Callable[[str], None]) -> None:
        """Start the shards; called by the collector, before anything is stored.

        Args:
            start: Starts a shard that ``make_shard`` makes.
            log: Takes messages.
        """
        self._shards = Shards(start, num=self.num_shards, hang_timeout_s=self.hang_timeout_s, log=log)

    def close(self) -> None:
        """End the shards; never raises."""
        if self._shards is not None:
            self._shards.close()
            self._shards = None

    def set_frames(self, frames: int) -> None:
        """Do nothing: the capacity is constant."""

    def extend(self, steps: TensorDictBase) -> int:
        """Let the next shard store what a worker has written; returns the number of transitions.

        Args:
            steps: A batch of a worker with ``Rows`` at ``"rows"``.
        """
        rows = steps.get(ROWS, None)
        if rows is None:
            raise ValueError("steps: no worker has written transitions for them; use collector=ray")
        rows = rows.data
        if not rows.num:
            return 0
        while True:
            started = self.shards.started()
            self._turn += 1
            shard = started[self._turn % len(started)]
            if self.shards.settled([shard]):
                break
        shard.pending = shard.handle.call("write", rows.data, self.highest)
        self.budget.earn(rows.num)
        return int(rows.num)

    def num_updates(self) -> int:
        """Updates that are due now; none before enough is stored, and what was stored until then is not made up for."""
        if len(self) < self.learning_starts:
            self.budget.num_uses_left = 0.0
            return 0
        return self.budget.num_updates(self.batch_size)

    def batches(self) -> Iterator[TensorDictBase]:
        """The batches that are due now; each pays for one update."""
        for _ in range(self.num_updates()):
            batch = self.sample()
            if batch is None:
                return
            self.budget.spend(self.batch_size)
            yield batch

    def sample(self) -> TensorDictBase | None:
        """A batch to learn from; ``None`` if nothing is stored."""
        answers: dict[Shard, TensorDictBase] = {}
        while not answers:
            self.shards.look_at_starts()
            shards = [shard for shard in self.shards.settled() if shard.state.num]
            if not shards:
                return None
            totals = torch.tensor([shard.state.total for shard in shards], dtype=torch.float64)
            mass = torch.rand(self.batch_size, dtype=torch.float64, generator=self._generator) * totals.sum()
            parts = zip(shards, split_by_shard(mass, totals), strict=True)
            asked = {shard: shard.handle.call("draw", own) for shard, own in parts if len(own)}
            answers = self.shards.answers(asked)
            if len(answers) < len(asked):
                answers = {}  # one was lost: draw again from those that are left
        self._drawn_from = list(answers)
        rows = [rows.set("shard", torch.full((len(rows),), i)) for i, rows in enumerate(answers.values())]
        batch: TensorDictBase = torch.cat(rows)
        found = batch.pop("mass")
        if self.prioritized is not None:
            batch["priority_weight"] = ((found / min(shard.state.least for shard in shards)) ** -self.beta).float()
        for transform in (self.mini_race, self.augmentation):
            batch = batch if transform is None else transform(batch)
        return batch

    def sample_test(self) -> None:
        """``None``: nothing is held out."""

    def seen(self, batch: TensorDictBase) -> None:
        """Give the shards the priorities that the loss wrote into the batch."""
        if self.prioritized is None:
            return
        priority = batch[PRIORITY].detach().reshape(len(batch), -1).amax(1).cpu()
        place, index = batch["shard"].cpu(), batch["index"].cpu()
        self.highest = max(self.highest, float(priority.max()))
        for i, shard in enumerate(self._drawn_from):
            if self.shards.settled([shard]):  # not replaced meanwhile
                mine = place == i
                shard.pending = shard.handle.call("update", index[mine], priority[mine])

    def first_states(self, num: int) -> TensorDictBase | None:
        """Transitions ``[num]`` of the fullest shard; ``None`` if it has too few."""
        fullest = max(self.shards.settled(), key=lambda shard: shard.state.num, default=None)
        if fullest is None or fullest.state.num < num:
            return None
        found: TensorDictBase | None = self.shards.answers({fullest: fullest.handle.call("spread", num)}).get(fullest)
        return found

    def metrics(self) -> dict[str, float]:
        """Transitions that are stored, shards that hold them, and transitions that were lost with shards."""
        return {
            "replay_size": float(len(self)),
            "replay_shards": float(sum(shard.known is not None for shard in self.shards.all)),
            "replay_lost": float(self.shards.num_lost),
        }

    def set_gamma(self, gamma: float) -> None:
        """Discount of one step, of the transitions that are written from now on."""
        self.n_step.gamma = gamma

    def set_beta(self, beta: float) -> None:
        """Exponent of the importance weights."""
        self.beta = beta

    def contents(self) -> dict[str, Any]:
        """The shards, each of which saves its part."""
        return {f"shard_{number}": SavedShard(self, number) for number in range(self.num_shards)}

    def state_dict(self) -> dict[str, Any]:
        """Everything but the shards' contents."""
        return {
            "budget": self.budget.state_dict(),
            "highest": self.highest,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.budget.load_state_dict(state["budget"])
        self.highest = state["highest"]
        self._generator.set_state(state["generator"])


def split_by_shard(mass: Tensor, totals: Tensor) -> list[Tensor]:
    """The places in each shard's own running sum, of places in that of all shards one after the other.

    Args:
        mass: Places ``[B]`` from 0 to the sum of the totals.
        totals: Of the shards, all above 0.

    Examples:
        >>> split_by_shard(torch.tensor([0.5, 5.0, 3.5]), torch.tensor([3.0, 1.0, 2.0]))
        [tensor([0.5000]), tensor([0.5000]), tensor([1.])]
    """
    ends = totals.cumsum(0)
    at = torch.searchsorted(ends, mass, right=True).clamp_(max=len(totals) - 1)  # rounding may reach the end
    return [mass[at == i] - (ends[i] - totals[i]) for i in range(len(totals))]
