"""States of episodes gone by, to begin others in: the game puts cars on the start line only, a rewind anywhere."""

from __future__ import annotations

import random

KEEP_EVERY = 5  # steps: a state each 0.25 s
LEFT_OUT = 8  # of these, at the end of an episode: what led to its end
ZONES_PER_BIN = 20  # 10 m of the way
PER_BIN = 16


class PastStates:
    """A few states of each stretch of the way, the latest ones, so that a draw is even over the way and not over time.

    Examples:
        >>> past = PastStates()
        >>> for i in range(100):
        ...     past.add(bytes([i]), zone=20 + i)
        >>> len(past)
        0
        >>> past.end_episode()
        >>> len(past), past.draw(random.Random(0)) in {bytes([i]) for i in range(0, 60, 5)}
        (12, True)
    """

    def __init__(self) -> None:
        self._bins: dict[int, list[bytes]] = {}
        self._episode: list[tuple[int, bytes]] = []
        self._num_steps = 0

    def __len__(self) -> int:
        return sum(map(len, self._bins.values()))

    def add(self, state: bytes, *, zone: int) -> None:
        """A state of the present episode."""
        if self._num_steps % KEEP_EVERY == 0:
            self._episode.append((zone // ZONES_PER_BIN, state))
        self._num_steps += 1

    def end_episode(self) -> None:
        """Keep what the episode brought, but for its end."""
        for place, state in self._episode[:-LEFT_OUT]:
            kept = self._bins.setdefault(place, [])
            kept.append(state)
            del kept[:-PER_BIN]
        self._episode.clear()
        self._num_steps = 0

    def draw(self, generator: random.Random) -> bytes:
        """One of them."""
        return generator.choice(self._bins[generator.choice(sorted(self._bins))])
