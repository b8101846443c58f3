"""Statistics of the episodes that end in collected batches."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor


class EpisodeStatistics:
    """Returns and lengths of the last episodes, over batches ``[N, T]``.

    All batches have the same lanes, or name them at ("collector", "lane"). Where ("collector", "traj_ids") changes
    between two batches, as after a worker's failure, the lane's episode begins there.

    Args:
        window: Number of last episodes in the means.

    Examples:
        >>> from tensordict import TensorDict
        >>> done = torch.tensor([[[False], [True], [False]]])
        >>> batch = TensorDict({"next": {"reward": torch.ones(1, 3, 1), "done": done, "terminated": done}}, [1, 3])
        >>> statistics = EpisodeStatistics()
        >>> statistics.add(batch)
        >>> statistics.means()["return"], statistics.num_episodes
        (2.0, 1)
    """

    def __init__(self, *, window: int = 100) -> None:
        self.last: deque[tuple[float, float, float]] = deque(maxlen=window)
        self.num_episodes = 0
        self.num_terminated = 0
        self._returns = torch.zeros(0)
        self._lengths = torch.zeros(0)
        self._trajectories = torch.zeros(0, dtype=torch.int64)

    def add(self, batch: TensorDictBase) -> None:
        """Add the episodes that end in a batch."""
        after = batch["next"]
        num, steps = batch.shape
        reward, done, terminated = (
            after[key].reshape(num, steps).float().cpu() for key in ("reward", "done", "terminated")
        )
        mine, numbers = self._lanes(batch)
        returns, lengths = self._returns[mine], self._lengths[mine]
        if numbers is not None:
            is_new = self._trajectories[mine] != numbers[:, 0]
            returns, lengths = returns.masked_fill(is_new, 0.0), lengths.masked_fill(is_new, 0.0)
            self._trajectories[mine] = numbers[:, -1]
        for t in range(steps):
            returns, lengths = returns + reward[:, t], lengths + 1
            ended = done[:, t].nonzero().flatten()
            if len(ended):
                columns = (returns[ended], lengths[ended], terminated[ended, t])
                self.last.extend(zip(*(column.tolist() for column in columns), strict=True))
                self.num_episodes += len(ended)
                self.num_terminated += int(columns[2].sum())
                returns[ended] = 0.0
                lengths[ended] = 0.0
        self._returns[mine], self._lengths[mine] = returns, lengths

    def _lanes(self, batch: TensorDictBase) -> tuple[slice, Tensor | None]:
        """The batch's lanes, for which it makes room, and the numbers of its trajectories."""
        lane, numbers = (batch.get(("collector", name), None) for name in ("lane", "traj_ids"))
        first = 0 if lane is None else int(lane[0, 0])
        num, before = first + batch.shape[0], len(self._returns)
        if num > before:
            self._returns, self._lengths, self._trajectories = (
                torch.cat([values, values.new_zeros(num - before)])
                for values in (self._returns, self._lengths, self._trajectories)
            )
        return slice(first, num), None if numbers is None else numbers.reshape(batch.shape).cpu()

    def means(self) -> dict[str, float]:
        """Means of ``return``, ``length`` and ``terminated`` (a share); empty before the first episode ends."""
        if not self.last:
            return {}
        columns = zip(*self.last, strict=True)
        names = ("return", "length", "terminated")
        return {name: sum(column) / len(column) for name, column in zip(names, columns, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Running sums and the window."""
        return {
            "last": [list(entry) for entry in self.last],
            "num_episodes": self.num_episodes,
            "num_terminated": self.num_terminated,
            "returns": self._returns.clone(),
            "lengths": self._lengths.clone(),
            "trajectories": self._trajectories.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.last.clear()
        self.last.extend((entry[0], entry[1], entry[2]) for entry in state["last"])
        self.num_episodes, self.num_terminated = state["num_episodes"], state["num_terminated"]
        self._returns, self._lengths = state["returns"].clone(), state["lengths"].clone()
        none = torch.full(self._lengths.shape, -1, dtype=torch.int64)  # absent from older runs
        self._trajectories = state.get("trajectories", none).clone()
