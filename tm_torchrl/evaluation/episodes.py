"""Episodes of any task, played greedily, and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase, ExplorationType, set_exploration_type

from tm_torchrl.evaluation.statistics import interquartile_mean
from tm_torchrl.modules.carried import carried_keys, carried_values


@dataclass
class Episodes:
    """Results of N episodes.

    Args:
        returns: Sums of rewards ``[N]``.
        lengths: Numbers of steps ``[N]``.
    """

    returns: np.ndarray
    lengths: np.ndarray

    def summary(self) -> dict[str, Any]:
        """The results as JSON values."""
        return {
            "num_episodes": len(self.returns),
            "return_mean": float(self.returns.mean()),
            "return_iqm": interquartile_mean(self.returns),
            "return_min": float(self.returns.min()),
            "return_max": float(self.returns.max()),
            "length_mean": float(self.lengths.mean()),
        }


@torch.no_grad()
def play_episodes(env: EnvBase, policy: TensorDictModuleBase, *, num_episodes: int) -> Episodes:
    """Play episodes greedily; every episode that was started counts and is played to its end.

    Args:
        env: An environment of any batch size, which is played in rounds if it has fewer copies than ``num_episodes``.
        policy: Acts without exploring.
        num_episodes: N.

    Examples:
        >>> from tensordict.nn import TensorDictModule
        >>> from tm_torchrl.envs.gymnasium_batch import GymnasiumBatch
        >>> push_right = TensorDictModule(lambda seen: torch.ones(len(seen)).long(), ["observation"], ["action"])
        >>> env = GymnasiumBatch("CartPole-v1", num_envs=2)
        >>> play_episodes(env, push_right, num_episodes=3).summary()["num_episodes"]
        3
    """
    if num_episodes < 1:
        raise ValueError(f"num_episodes={num_episodes}: must be at least 1")
    copies = max(1, env.batch_size.numel())
    rounds = [_play_round(env, policy, copies) for _ in range(-(-num_episodes // copies))]
    returns, lengths = (np.concatenate(parts)[:num_episodes] for parts in zip(*rounds, strict=True))
    return Episodes(returns, lengths)


def _play_round(env: EnvBase, policy: TensorDictModuleBase, copies: int) -> tuple[np.ndarray, np.ndarray]:
    returns, lengths = torch.zeros(copies, dtype=torch.float64), torch.zeros(copies, dtype=torch.int64)
    is_playing = torch.ones(copies, dtype=torch.bool)
    state, keys = env.reset(), carried_keys(policy)
    while bool(is_playing.any()):
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            acted = policy(state)
            carried = carried_values(acted, keys)
            state, after = env.step_and_maybe_reset(acted)
        after.update(carried)  # also behind the end of an episode, which no result counts
        returns += state["next", "reward"].reshape(copies).cpu() * is_playing
        lengths += is_playing
        is_playing &= ~state["next", "done"].reshape(copies).cpu()
        state = after
    return returns.numpy(), lengths.numpy()
