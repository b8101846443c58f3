"""A source that plays nothing: it counts frames for algorithms that learn from what was recorded before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase

from tm_torchrl.collectors.collector import EnvMaker


class Clock:
    """Yields batches whose only content is their number of frames.

    Args:
        env_maker: Not used: no environment is made.
        policy: Not used: nothing acts.
        frames_per_batch: Frames of a batch.
        device: Device of the batches.
        seed: Not used: nothing is drawn.
        log: Not used: nothing can fail.
    """

    def __init__(
        self,
        env_maker: EnvMaker,
        policy: TensorDictModuleBase,
        *,
        frames_per_batch: int = 5_120,
        device: torch.device | str = "cpu",
        seed: int = 0,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        if frames_per_batch < 1:
            raise ValueError(f"frames_per_batch={frames_per_batch}: must be at least 1")
        flag = torch.zeros(1, 1, dtype=torch.bool, device=device)
        after = {"reward": torch.zeros(1, 1, device=device), "done": flag, "terminated": flag}
        self._batch = TensorDict({"next": after}, [1]).expand(frames_per_batch, 1)

    def __iter__(self) -> Iterator[TensorDictBase]:
        """Batches ``[N, 1]`` without end."""
        while True:
            yield self._batch

    def push_weights(self) -> None:
        """Do nothing."""

    def set_frames(self, num_frames: int) -> None:
        """Do nothing."""

    def metrics(self) -> dict[str, float]:
        """Empty."""
        return {}

    def shutdown(self) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""
