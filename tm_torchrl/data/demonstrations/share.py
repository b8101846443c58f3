"""``DemonstrationShare``: a share of each batch of a replay comes from demonstrations, which are kept for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import TensorDictReplayBuffer

from tm_torchrl.data.steps.n_step import NStep
from tm_torchrl.settings.schedules import make_schedule

IS_DEMONSTRATION = "is_demonstration"


class DemonstrationShare:
    """Transitions of recorded laps, mixed into every batch (Ball et al. 2023 mix half and half).

    ``is_demonstration`` of a batch says which actions are the driver's choices; random ones in recorded laps are not.

    Args:
        data: The folder of recorded laps, or several; ``"author"`` for laps like the author's, driven now.
        share: Share of a batch, a number or a schedule by frames.
        seed: Seeds which transitions are drawn.
    """

    def __init__(
        self, data: str | Path | Sequence[str | Path], *, share: float | Sequence[Any] = 0.5, seed: int = 0
    ) -> None:
        self.data = [data] if isinstance(data, (str, Path)) else list(data or ())
        if not self.data or not all(isinstance(each, (str, Path)) for each in self.data):
            raise ValueError(f"data={data}: must be a folder of recorded laps, several of them, or author")
        self.share = make_schedule(share, name="share")
        for _, value in self.share.points:
            if not 0.0 <= value < 1.0:
                raise ValueError(f"share={value}: must be at least 0 and below 1")
        self._frames = 0
        self._generator = torch.Generator().manual_seed(seed)
        self.buffer: TensorDictReplayBuffer | None = None

    def __len__(self) -> int:
        return 0 if self.buffer is None else len(self.buffer)

    def fill(
        self, laps: Sequence[TensorDictBase], *, writer: NStep, make_buffer: Callable[[int], TensorDictReplayBuffer]
    ) -> None:
        """Keep the transitions of laps.

        Args:
            laps: Steps ``[1, T]`` of each lap.
            writer: Makes transitions, as the replay's own does.
            make_buffer: Makes a buffer of a given capacity.
        """
        self.buffer = make_buffer(sum(lap.numel() for lap in laps))
        for lap in laps:
            transitions = writer.transitions(lap)
            transitions[IS_DEMONSTRATION] = transitions["is_greedy"].reshape(-1)
            self.buffer.extend(transitions)

    def set_frames(self, frames: int) -> None:
        """Follow the schedule."""
        self._frames = frames

    def mixed(self, buffer: TensorDictReplayBuffer) -> TensorDictBase:
        """A batch of another buffer's size, of which a share is demonstrations.

        Args:
            buffer: What the policy itself has done.
        """
        batch: TensorDictBase = buffer.sample()
        batch[IS_DEMONSTRATION] = torch.zeros(len(batch), dtype=torch.bool)
        num = round(self.share(self._frames) * len(batch))
        if not num or self.buffer is None:
            return batch
        batch = batch[: len(batch) - num]
        rows = torch.randint(len(self.buffer), (num,), generator=self._generator)
        shown = self.buffer[rows]
        keys = [key for key in batch.keys(True, True) if key in shown.keys(True, True)]
        return torch.cat([batch.select(*keys), shown.select(*keys)])

    def state_dict(self) -> dict[str, Any]:
        """The state of the generator; laps are driven again when a run goes on."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._generator.set_state(state["generator"])
