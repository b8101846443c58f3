"""Atari games as gymnasium tasks ``Atari/GAME-v5`` that show four 84 x 84 images, as BTR's paper has them.

Importing this registers them: ``gymnasium.make("benchmarks.envs.atari:Atari/Pong-v5")``. Four frames for a step,
actions that stick with probability 1/4 (Machado et al. 2018), up to 30 steps of nothing to begin with, no signal of
lost lives, the sign of the reward, at most 108,000 frames. Needs the extra "bench"; ale-py carries its ROMs.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

GAMES = ("BattleZone", "Breakout", "NameThisGame", "Phoenix", "Pong", "Qbert")
MAX_STEPS = 27_000


def make_game(game: str, *, clip_rewards: bool = True) -> gymnasium.Env[Any, Any]:
    """One game."""
    try:
        import ale_py
    except ImportError as error:
        raise ImportError('ale-py is needed: pip install -e ".[bench]" -c constraints.txt') from error
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TransformObservation, TransformReward

    gymnasium.register_envs(ale_py)
    env: Any = gymnasium.make(f"ALE/{game}-v5", frameskip=1, repeat_action_probability=0.25)
    env = FrameStackObservation(AtariPreprocessing(env, noop_max=30, frame_skip=4, screen_size=84), 4)
    space = gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    env = TransformObservation(env, lambda seen: np.moveaxis(np.asarray(seen), 0, -1), space)
    return TransformReward(env, lambda reward: float(np.sign(float(reward)))) if clip_rewards else env


for _game in GAMES:
    gymnasium.register(
        f"Atari/{_game}-v5",
        entry_point="benchmarks.envs.atari:make_game",
        kwargs={"game": _game},
        max_episode_steps=MAX_STEPS,
    )
