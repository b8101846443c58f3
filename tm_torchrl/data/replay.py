"""Replay: a memory of n-step transitions that pays for a number of updates with each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs.transforms import Transform

from tm_torchrl.data.demonstrations.share import DemonstrationShare
from tm_torchrl.data.reuse_budget import ReuseBudget
from tm_torchrl.data.steps.held_out import HeldOut
from tm_torchrl.data.steps.mini_race import MiniRace
from tm_torchrl.data.steps.n_step import TRAJECTORY, NStep
from tm_torchrl.data.storage.capacity import CapacitySchedule, move_contents
from tm_torchrl.data.storage.frame_store import FrameStorage
from tm_torchrl.data.storage.prioritized_sampler import PrioritizedSampler
from tm_torchrl.data.storage.replay_buffer import make_replay_buffer
from tm_torchrl.settings.schedules import make_schedule

STORAGES = ("auto", "frames", "memmap", "memory")
EMBEDDINGS = "embeddings"
NO_EMBEDDINGS = "embeddings are stored by replay=uniform and replay=prioritized alone"


@dataclass(frozen=True)
class Priorities:
    """Prioritised sampling (Schaul et al. 2016).

    Args:
        alpha: 0 samples uniformly, 1 in proportion to the priorities.
        beta: Exponent of the importance weights, a number or a schedule by frames.
    """

    alpha: float = 0.6
    beta: float | Sequence[Any] = 0.4

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ValueError(f"alpha={self.alpha}: must not be negative")
        for _, value in make_schedule(self.beta, name="beta").points:
            if value < 0:
                raise ValueError(f"beta={self.beta}: must not be negative")


class Replay:
    """A buffer of n-step transitions that grows by a schedule and may hold some of them out for testing.

    Args:
        capacity: Number of transitions, or stages ``[[frames, capacity, learning_starts], ...]``.
        learning_starts: Transitions that are stored before learning begins; stages have their own.
        batch_size: Transitions in a batch.
        uses_per_transition: How often each transition is learnt from, on average.
        num_steps: Steps that a return sums before it bootstraps.
        cut_at_exploration: Whether a return ends before the first action that was not greedy.
        gamma: Discount of one step; may be set again at any time.
        storage: ``"memory"``, ``"memmap"`` (files), ``"frames"`` (each image once), ``"embeddings"`` (what the
            network's frozen vision part makes of each image, once), or ``"auto"``: frames for images.
        held_out_share: Share of the trajectories that only test the loss.
        mini_race: Draws a horizon for each sample.
        augmentation: Changes sampled images.
        prioritized: ``None`` samples uniformly.
        demonstrations: Recorded laps of which a share of each batch is; ``None`` for none.
        stored_keys: Keys that the network reads, stored at both ends of a transition.
        embed: The network's frozen vision part, for ``storage="embeddings"``; ``None`` if it is not frozen.
        seed: Seeds the sampler.
    """

    def __init__(
        self,
        *,
        capacity: int | Sequence[Sequence[int]],
        learning_starts: int = 0,
        batch_size: int,
        uses_per_transition: float,
        num_steps: int = 1,
        cut_at_exploration: bool = False,
        gamma: float,
        storage: str = "auto",
        held_out_share: float = 0.0,
        mini_race: MiniRace | None = None,
        augmentation: Transform | None = None,
        prioritized: Priorities | None = None,
        demonstrations: DemonstrationShare | None = None,
        stored_keys: Sequence[NestedKey] = (),
        embed: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        check_sizes(capacity, learning_starts=learning_starts, batch_size=batch_size)
        if storage == EMBEDDINGS:
            _check_embeddings(embed, stored_keys=stored_keys, augmentation=augmentation, demonstrations=demonstrations)
        else:
            storage = chosen_storage(storage, stored_keys=stored_keys, augmentation=augmentation)
        if demonstrations is not None and prioritized is not None:
            raise ValueError("demonstrations: have no priorities; use replay=uniform, or leave them at null")
        if demonstrations is not None and held_out_share:
            raise ValueError(
                "demonstrations: none of them can be held out; use held_out_share=0, or leave them at null"
            )
        stages = [(0, capacity, learning_starts)] if isinstance(capacity, int) else [tuple(s) for s in capacity]
        self.capacity = CapacitySchedule(stages)  # type: ignore[arg-type]
        self.n_step = NStep(
            num_steps,
            gamma=gamma,
            cut_at_exploration=cut_at_exploration,
            frame_ids=storage in ("frames", EMBEDDINGS),
            extra_keys=[*stored_keys, *([TRAJECTORY] if held_out_share else [])],
        )
        self.writers: dict[range, NStep] = {}  # by the lanes that they write
        self.budget = ReuseBudget(uses_per_transition=uses_per_transition)
        self.batch_size = batch_size
        self.prioritized = prioritized
        self.demonstrations = demonstrations
        self.embed = embed if storage == EMBEDDINGS else None
        self.mini_race = mini_race
        if mini_race is not None and mini_race.seed is None:
            mini_race.generator.manual_seed(seed)
        self.held_out = HeldOut(share=held_out_share, seed=seed) if held_out_share else None
        self._make_buffer = _buffer_maker(
            batch_size=batch_size,
            prioritized=prioritized,
            storage=storage,
            embed=self.embed,
            mini_race=mini_race,
            augmentation=augmentation,
            seed=seed,
        )
        stage = self.capacity(0)
        self.learning_starts = stage.learning_starts
        self.buffer = self._make_buffer(stage.capacity)
        self.test_buffer = None if self.held_out is None else self._make_buffer(max(1, stage.capacity // 10))

    def __len__(self) -> int:
        return len(self.buffer)

    def contents(self) -> dict[str, TensorDictReplayBuffer]:
        """The buffers whose contents are saved apart, by name."""
        return {"train": self.buffer} | ({} if self.test_buffer is None else {"test": self.test_buffer})

    def set_frames(self, frames: int) -> None:
        """Grow where the schedule says so."""
        if self.demonstrations is not None:
            self.demonstrations.set_frames(frames)
        stage = self.capacity(frames)
        self.learning_starts = stage.learning_starts
        if stage.capacity > self.buffer.storage.max_size:
            larger = self._make_buffer(stage.capacity)
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

    def batches(self) -> Iterator[TensorDictBase]:
        """The batches that are due now; each pays for one update."""
        for _ in range(self.num_updates()):
            yield self.sample()

    def sample(self) -> TensorDictBase:
        """A batch to learn from; pays for one update."""
        self.budget.spend(self.batch_size)
        if self.demonstrations is not None:
            return self.demonstrations.mixed(self.buffer)
        batch: TensorDictBase = self.buffer.sample()
        return batch

    def add_demonstrations(self, laps: Sequence[TensorDictBase]) -> None:
        """Keep the transitions of recorded laps, each as its steps ``[1, T]``."""
        assert self.demonstrations is not None
        self.demonstrations.fill(laps, writer=copy.deepcopy(self.n_step), make_buffer=self._make_buffer)

    def sample_test(self) -> TensorDictBase | None:
        """A batch of held-out transitions; ``None`` while there are too few."""
        if self.test_buffer is None or len(self.test_buffer) < self.batch_size:
            return None
        batch: TensorDictBase = self.test_buffer.sample()
        return batch

    def first_states(self, num: int) -> TensorDictBase | None:
        """Transitions ``[num]`` from all over the buffer; ``None`` if there are too few."""
        if len(self.buffer) < num:
            return None
        rows: TensorDictBase = self.buffer[torch.linspace(0, len(self.buffer) - 1, num).long()]
        return rows

    def seen(self, batch: TensorDictBase) -> None:
        """Give a prioritised buffer the priorities that the loss wrote into the batch."""
        self.buffer.update_tensordict_priority(batch)  # a uniform one has none to update

    def metrics(self) -> dict[str, float]:
        """The number of stored transitions."""
        return {"replay_size": float(len(self))}

    def set_gamma(self, gamma: float) -> None:
        """Discount of one step, of the transitions that are written from now on."""
        for writer in (self.n_step, *self.writers.values()):
            writer.gamma = gamma

    def set_beta(self, beta: float) -> None:
        """Exponent of the importance weights of a prioritised buffer."""
        if self.prioritized is not None:
            self.buffer.sampler.beta = beta

    def state_dict(self) -> dict[str, Any]:
        """Everything but the buffers' contents, which are saved apart."""
        return {
            "writers": [[of.start, of.stop, writer.get_extra_state()] for of, writer in self.writers.items()],
            "budget": self.budget.state_dict(),
            "held_out": {} if self.held_out is None else self.held_out.state_dict(),
            "demonstrations": {} if self.demonstrations is None else self.demonstrations.state_dict(),
            "capacity": self.buffer.storage.max_size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state; raises ``ValueError`` if it is of a larger buffer."""
        largest = self.capacity.stages[-1].capacity
        if state["capacity"] > largest:
            raise ValueError(f"replay.capacity={largest}: must be at least {state['capacity']}, as it was")
        if state["capacity"] != self.buffer.storage.max_size:
            self.buffer = self._make_buffer(state["capacity"])
        self.writers = {}
        for start, stop, saved in state.get("writers", []):  # absent from older runs; their pending steps are lost
            self._writer(range(start, stop)).set_extra_state(saved)
        self.budget.load_state_dict(state["budget"])
        if self.demonstrations is not None and state.get("demonstrations"):
            self.demonstrations.load_state_dict(state["demonstrations"])
        if self.held_out is not None:
            self.held_out.load_state_dict(state["held_out"])


def lanes_of(steps: TensorDictBase) -> range:
    """The numbers of the lanes of a batch ``[N, T]``; from 0 where ("collector", "lane") does not tell them."""
    lane = steps.get(("collector", "lane"), None)
    first = 0 if lane is None or not lane.numel() else int(lane[0, 0])
    return range(first, first + steps.shape[0])


def chosen_storage(storage: str, *, stored_keys: Sequence[NestedKey], augmentation: Transform | None) -> str:
    """The kind of storage, which ``"auto"`` leaves to the keys; checks that an augmentation finds images in them."""
    has_images = "pixels" in stored_keys
    if storage not in STORAGES:
        raise ValueError(f"storage={storage!r}: must be one of {', '.join(STORAGES)}; {NO_EMBEDDINGS}")
    if augmentation is not None and not isinstance(augmentation, Transform):
        raise ValueError(f"augmentation={augmentation!r}: must be a transform, or null")
    if augmentation is not None and not has_images:
        kind = type(augmentation).__name__
        raise ValueError(f"augmentation={kind}: needs images; use env.pixels=true, or leave it at null")
    if storage == "auto":
        return "frames" if has_images else "memory"
    return storage


def check_sizes(capacity: Any, *, learning_starts: int, batch_size: int) -> None:
    """Check the sizes of a replay; a capacity may also be a list of stages."""
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    if learning_starts < 0:
        raise ValueError(f"learning_starts={learning_starts}: must not be negative")
    if isinstance(capacity, int) and not isinstance(capacity, bool):
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: must be at least 1")
        if learning_starts > capacity:
            raise ValueError(
                f"learning_starts={learning_starts}: must be at most capacity={capacity}, or learning never starts"
            )
        return
    is_list = isinstance(capacity, Sequence) and not isinstance(capacity, str) and len(capacity) > 0
    if not is_list or not all(isinstance(stage, Sequence) and len(stage) == 3 for stage in capacity):
        raise ValueError(
            f"capacity={capacity}: must be a whole number, or stages [[frames, capacity, learning_starts], ...]"
        )


def _check_embeddings(
    embed: Callable[[Tensor], Tensor] | None,
    *,
    stored_keys: Sequence[NestedKey],
    augmentation: Transform | None,
    demonstrations: DemonstrationShare | None,
) -> None:
    if "pixels" not in stored_keys:
        raise ValueError("storage='embeddings': needs images; use env.pixels=true, or storage='auto'")
    if embed is None:
        raise ValueError(
            "storage='embeddings': needs an ImageEncoder that is frozen, since what one that learns makes of an image "
            "changes; use objective.network.frozen=[vision], or storage='frames'"
        )
    if augmentation is not None:
        kind = type(augmentation).__name__
        raise ValueError(f"augmentation={kind}: changes images, and storage='embeddings' has none; use 'frames'")
    if demonstrations is not None:
        raise ValueError(
            "demonstrations: are stored before warm_start loads the vision part that storage='embeddings' needs; use "
            "storage='frames'"
        )


def _buffer_maker(
    *,
    prioritized: Priorities | None,
    storage: str,
    embed: Callable[[Tensor], Tensor] | None,
    mini_race: Transform | None,
    augmentation: Transform | None,
    **options: Any,
) -> Callable[[int], TensorDictReplayBuffer]:
    def sampler(capacity: int) -> PrioritizedSampler | str:
        if prioritized is None:
            return "uniform"
        return PrioritizedSampler(capacity, prioritized.alpha, make_schedule(prioritized.beta, name="beta")(0))

    def make_buffer(capacity: int) -> TensorDictReplayBuffer:
        return make_replay_buffer(
            capacity=capacity,
            sampler=sampler(capacity),
            storage=storage if embed is None else FrameStorage(capacity, embed={"pixels": embed}),
            transforms=[
                *([] if mini_race is None else [mini_race]),  # one for all buffers: its generator goes on
                *([] if augmentation is None else [copy.deepcopy(augmentation)]),
            ],
            **options,
        )

    return make_buffer
