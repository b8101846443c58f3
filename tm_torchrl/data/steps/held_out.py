"""A share of the transitions that is never learnt from."""

from __future__ import annotations

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor


class HeldOut:
    """Splits transitions into those to learn from and those to test the loss on.

    Whole trajectories are held out where the transitions tell them (neighbouring transitions share steps, so single
    ones would leak), single transitions otherwise. Which ones depends on the seed and the trajectory's number alone.

    An n-step writer hands trajectories' numbers on if it is made with
    ``NStep(..., extra_keys=[("collector", "traj_ids")])``; call its ``transitions`` and split what comes out.

    Args:
        share: of trajectories held out; 0.05 in the Linesight agent.
        seed: of the choice.
        trajectory_key: read if it is there.

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
            raise ValueError(f"share={share}: lies in [0, 1)")
        self.share = share
        self.seed = seed
        self.trajectory_key = trajectory_key
        self._num_seen = 0

    def split(self, transitions: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """Those to learn from and those held out, of a flat ``[K]``."""
        if transitions.ndim != 1:
            raise ValueError(f"transitions: batch size {tuple(transitions.batch_size)}; one dimension wanted")
        number = transitions.get(self.trajectory_key, None)
        if number is None:
            number = torch.arange(self._num_seen, self._num_seen + len(transitions))
            self._num_seen += len(transitions)
        is_test = _uniform(number.reshape(len(transitions)).to(torch.int64), self.seed) < self.share
        return transitions[~is_test], transitions[is_test]

    def state_dict(self) -> dict[str, int]:
        """How many single transitions were seen."""
        return {"num_seen": self._num_seen}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there."""
        self._num_seen = int(state_dict["num_seen"])


def _uniform(number: Tensor, seed: int) -> Tensor:
    """A number in [0, 1) for each integer: its bits well mixed (the finaliser of MurmurHash3, 32 bits)."""
    mask = 0xFFFFFFFF
    x = (number ^ (number >> 32) ^ (seed * 0x9E3779B1 & mask)) & mask
    for multiplier, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13), (1, 16)):
        x = ((x ^ (x >> shift)) * multiplier) & mask
    return x.to(torch.float64) / 2**32
