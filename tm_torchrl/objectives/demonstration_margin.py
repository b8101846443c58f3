"""A margin between the value of a demonstrated action and those of all others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DemonstrationMargin:
    """Asks that a demonstrated action is worth more than all others by a margin, as DQfD does (Hester et al. 2018).

    The loss of a sample is the weight times max over actions of (value + margin where it is not the demonstrated one),
    less the value of the demonstrated action; values are means over the fractions. It is 0 for samples that are no
    demonstrations. Margins are in units of the values, whose differences between actions are often much smaller than
    the 0.8 of the paper.

    Args:
        size: The margin, above 0.
        weight: Of this loss beside that of the quantiles, above 0.

    Examples:
        >>> values, action = torch.tensor([[1.0, 2.0, 1.0]]), torch.tensor([1])
        >>> DemonstrationMargin(1.5, weight=2.0)(values, action, torch.tensor([True]))
        tensor([1.])
    """

    size: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("size", "weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0")

    def __call__(self, values: Tensor, index: Tensor, is_demonstration: Tensor) -> Tensor:
        """The loss ``[B]``; for action blocks the mean over slots.

        Args:
            values: Values of all actions, ``[B, A]`` or ``[B, S, A]``.
            index: Actions ``[B]`` or ``[B, S]``.
            is_demonstration: ``[B]`` or ``[B, 1]``.
        """
        chosen = index.unsqueeze(-1)
        best = (values + torch.full_like(values, self.size).scatter(-1, chosen, 0.0)).amax(-1)
        behind = (best - values.gather(-1, chosen).squeeze(-1)).reshape(len(values), -1).mean(-1)
        return self.weight * behind * is_demonstration.reshape(-1)
