"""Sums and minima over many numbers of which few change at a time, in blocks of 64, in vectorised torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_WIDTH = 64
_AT_ONCE = 8192  # numbers; one running sum over them costs less than one more level of blocks for 512 draws


class BlockTree:
    """Numbers in float64 with a reduction of each block of 64, of 64 blocks, and so on.

    When a number changes, its blocks are reduced again from their members, so rounding errors do not accumulate.
    The interface is that of TorchRL's compiled trees. 200,000 numbers make three levels.

    Args:
        size: Number of numbers.
    """

    neutral = 0.0

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size={size}: must be at least 1")
        self.size = size
        self.num_used = 0  # numbers from here on were never set
        self.levels: list[Tensor] = []
        count = size
        while not self.levels or count > 1:
            count = -(-count // _WIDTH)
            self.levels.append(torch.full((count, _WIDTH), self.neutral, dtype=torch.float64))

    def reduce(self, values: Tensor) -> Tensor:
        """The reduction over the last dimension."""
        return values.sum(-1)

    def __getitem__(self, index: Any) -> Tensor:
        """The numbers at an index, a list of them or a slice."""
        return self.levels[0].view(-1)[: self.size][index]

    def __setitem__(self, index: Tensor | int, value: Tensor | float) -> None:
        """Set numbers; the last of several for one index counts."""
        at = torch.as_tensor(index, dtype=torch.int64).reshape(-1)
        if not len(at):
            return
        least, most = (int(end) for end in at.aminmax())
        if least < 0 or most >= self.size:
            raise IndexError(f"index from {least} to {most}: must lie between 0 and {self.size - 1}")
        self.num_used = max(self.num_used, most + 1)
        new = torch.as_tensor(value, dtype=torch.float64).reshape(-1).expand(len(at))
        # numpy guarantees that the last of several values for one index stays; torch's scatter_ does not.
        self.levels[0].view(-1).numpy()[at.numpy()] = new.numpy()
        for members, parents in zip(self.levels[:-1], self.levels[1:], strict=True):
            at = torch.unique_consecutive(at // _WIDTH)  # rows written together lie in few blocks
            parents.view(-1).scatter_(0, at, self.reduce(members.index_select(0, at)))

    def query(self, start: int, stop: int) -> float:
        """The reduction over ``[start, stop)``."""
        if start == 0 and stop >= self.num_used:
            return float(self.reduce(self.levels[-1][0]))
        return float(self.reduce(self[start:stop]))


class MinTree(BlockTree):
    """Minima; a number never set is infinite.

    Examples:
        >>> tree = MinTree(1000)
        >>> tree[torch.tensor([5, 700])] = torch.tensor([3.0, 2.0])
        >>> tree.query(0, 1000), tree.query(0, 10)
        (2.0, 3.0)
    """

    neutral = float("inf")

    def reduce(self, values: Tensor) -> Tensor:
        """The minimum over the last dimension."""
        return values.amin(-1)


class SumTree(BlockTree):
    """Sums; a number never set is 0. Also finds where the running sum passes a value.

    Examples:
        >>> tree = SumTree(1000)
        >>> tree[torch.tensor([5, 700])] = torch.tensor([3.0, 1.0])
        >>> tree.query(0, 1000), tree.scan_lower_bound(torch.tensor([0.5, 2.9, 3.1]))
        (4.0, tensor([  5,   5, 700]))
    """

    def scan_lower_bound(self, mass: Tensor | float) -> Tensor:
        """For each mass the first index whose running sum exceeds it, or the last number above 0 if none does.

        Differences are rounded, so at each level the mass is kept below the block's sum; numbers that are 0 are never
        found.
        """
        mass = torch.as_tensor(mass, dtype=torch.float64)
        shape, mass = mass.shape, mass.reshape(-1)
        first = next(i for i, level in enumerate(self.levels) if level.numel() <= _AT_ONCE)
        sums = self.levels[first].view(-1).cumsum(0)
        if not float(sums[-1]) > 0:
            raise ValueError("all numbers of the tree are 0: set one above 0 first")
        mass = torch.minimum(mass, _below(sums[-1]))
        index = torch.searchsorted(sums, mass, right=True)
        mass = mass - torch.where(index == 0, 0.0, sums[index - 1])
        for level in reversed(self.levels[:first]):
            sums = level.index_select(0, index).cumsum_(-1)
            mass = torch.minimum(mass, _below(sums[:, -1]))
            place = torch.searchsorted(sums, mass.unsqueeze(-1), right=True)
            before = sums.gather(-1, (place - 1).clamp_(min=0)).masked_fill_(place == 0, 0.0)
            mass = mass - before.squeeze(-1)
            index = index * _WIDTH + place.squeeze(-1)
        return index.reshape(shape)


def _below(sums: Tensor) -> Tensor:
    return torch.nextafter(sums, torch.zeros_like(sums))
