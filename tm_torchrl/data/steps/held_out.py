"""``HeldOut``: a share of the transitions that is only tested on and never learnt from."""

from __future__ import annotations

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor


class HeldOut:
    """Splits transitions into those to learn from and those to test the loss on.

    Whole trajectories are held out if the transitions have trajectory numbers (neighbouring transitions share steps, so
    single ones would leak), and single transitions otherwise. The choice depends only on the seed and the number.

    An n-step writer keeps trajectory numbers if it is made with
    ``NStep(..., extra_keys=[("collector", "traj_ids")])``; split what its ``transitions`` returns.

    Args:
        share: Share of the trajectories that is held out; 0.05 in Linesight.
        seed: Seeds the choice.
        trajectory_key: Key of the trajectory numbers, if there are any.

    Examples:
        >>> from tensordict import TensorDict
        >>> batch = TensorDict({"x": torch.arange(1000)}, [1000])
        >>> train, test = HeldOut(share=0.05, seed=0).split(batch)
        >>> len(train) + len(test), 30 < len(test) < 70
        (1000, True)
    """

    def __init__(
        self, *, share: float = 0.05, seed: int = 0, trajectory_key: NestedKey = ("collector", "traj_ids")
    ) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share={share}: must be at least 0 and below 1")
        self.share = share
        self.seed = seed
        self.trajectory_key = trajectory_key
        self._num_seen = 0

    def split(self, transitions: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """Split transitions ``[K]`` into those to learn from and those held out."""
        if transitions.ndim != 1:
            raise ValueError(f"transitions: batch size is {tuple(transitions.batch_size)}; must have one dimension")
        number = transitions.get(self.trajectory_key, None)
        if number is None:
            number = torch.arange(self._num_seen, self._num_seen + len(transitions))
            self._num_seen += len(transitions)
        is_test = _uniform(number.reshape(len(transitions)).to(torch.int64), self.seed) < self.share
        return transitions[~is_test], transitions[is_test]

    def state_dict(self) -> dict[str, int]:
        """Number of single transitions seen so far."""
        return {"num_seen": self._num_seen}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue from a saved state."""
        self._num_seen = int(state_dict["num_seen"])


def _uniform(number: Tensor, seed: int) -> Tensor:
    """A number in [0, 1) for each integer, by the 32-bit finaliser of MurmurHash3."""
    mask = 0xFFFFFFFF
    x = (number ^ (number >> 32) ^ (seed * 0x9E3779B1 & mask)) & mask
    for multiplier, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13), (1, 16)):
        x = ((x ^ (x >> shift)) * multiplier) & mask
    return x.to(torch.float64) / 2**32
