"""MinAtar's games (Young and Tian 2019) as gymnasium tasks ``Small/GAME-v1`` that show 10 x 10 uint8 images.

Importing this registers them: ``gymnasium.make("benchmarks.envs.small_images:Small/Breakout-v1")``. Actions are those
that do something in the game; an episode is cut after 5,000 steps. Needs the extra "bench".
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
MAX_STEPS = 5_000


class SmallGame(gymnasium.Env[np.ndarray, int]):
    """One game."""

    def __init__(self, game: str) -> None:
        try:
            from minatar import Environment
        except ImportError as error:
            raise ImportError('minatar is needed: pip install -e ".[bench]" -c constraints.txt') from error
        self.game: Any = Environment(game)
        self.actions: list[int] = self.game.minimal_action_set()
        self.observation_space = gymnasium.spaces.Box(0, 255, self.game.state_shape(), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(self.actions))  # type: ignore[assignment]

    def _seen(self) -> np.ndarray:
        seen: np.ndarray = self.game.state().astype(np.uint8) * 255
        return seen

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin anew."""
        super().reset(seed=seed)
        if seed is not None:
            self.game.seed(seed)
        self.game.reset()
        return self._seen(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One action."""
        reward, is_over = self.game.act(self.actions[action])
        return self._seen(), float(reward), bool(is_over), False, {}


def _plain(name: str) -> str:
    """``"SpaceInvaders"`` as ``"space_invaders"``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


for _game in GAMES:
    gymnasium.register(
        f"Small/{_game}-v1",
        entry_point="benchmarks.envs.small_images:SmallGame",
        kwargs={"game": _plain(_game)},
        max_episode_steps=MAX_STEPS,
    )
