"""States of earlier episodes, to start others from: a restart leads to the start line only, a rewind anywhere."""

from __future__ import annotations

import random

KEEP_EVERY = 5  # steps: one state per 0.25 s
LEFT_OUT = 8  # states at the end of an episode, which may have led to its end
ZONES_PER_BIN = 20  # 10 m of the track
MAX_PER_BIN = 16


class PastStates:
    """The latest few states of each stretch of the track, so that draws are even over distance instead of time.

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
        """Add a state of the current episode, at a zone of the track."""
        if self._num_steps % KEEP_EVERY == 0:
            self._episode.append((zone // ZONES_PER_BIN, state))
        self._num_steps += 1

    def end_episode(self) -> None:
        """Keep the episode's states, except those at its end."""
        for stretch, state in self._episode[:-LEFT_OUT]:
            kept = self._bins.setdefault(stretch, [])
            kept.append(state)
            del kept[:-MAX_PER_BIN]
        self._episode.clear()
        self._num_steps = 0

    def draw(self, generator: random.Random) -> bytes:
        """A random state: first a stretch is drawn, then one of its states."""
        return generator.choice(self._bins[generator.choice(sorted(self._bins))])
