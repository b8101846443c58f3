"""A gymnasium task that shows small images: a light in one of two places, and a button for each."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Light(gymnasium.Env[np.ndarray, int]):
    """The right button gives 1, in eight steps an episode; the light moves after every step."""

    def __init__(self, prize: float = 1.0) -> None:
        self.prize = prize
        self.observation_space = gymnasium.spaces.Box(0, 255, (6, 6, 2), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(2)  # type: ignore[assignment]

    def _seen(self) -> np.ndarray:
        image = np.zeros((6, 6, 2), np.uint8)
        image[1, 1 + 3 * self.place, self.place] = 255
        return image

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps, self.place = 0, int(self.np_random.integers(2))
        return self._seen(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = self.prize * (action == self.place)
        self.steps, self.place = self.steps + 1, int(self.np_random.integers(2))
        return self._seen(), reward, self.steps == 8, False, {}


if "Light-v0" not in gymnasium.registry:
    gymnasium.register("Light-v0", entry_point="tests.tasks.light_task:Light")
