"""sb3-contrib's QR-DQN in cells of the suite: as RL Baselines3 Zoo publishes it, or with the settings of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.pace import Pace
from benchmarks.peers.task import PeerTask

# hyperparams/qrdqn.yml of rl-baselines3-zoo at 04640c9, read in November 2026.
PUBLISHED: dict[str, dict[str, Any]] = {
    "cartpole": {
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 100_000,
        "learning_starts": 1_000,
        "gamma": 0.99,
        "target_update_interval": 10,
        "train_freq": 256,
        "gradient_steps": 128,
        "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
        "policy_kwargs": {"net_arch": [256, 256], "n_quantiles": 10},
    },
    "acrobot": {
        "learning_rate": 6.3e-4,
        "batch_size": 128,
        "buffer_size": 50_000,
        "learning_starts": 0,
        "gamma": 0.99,
        "target_update_interval": 250,
        "train_freq": 4,
        "gradient_steps": -1,
        "exploration_fraction": 0.12,
        "exploration_final_eps": 0.1,
        "policy_kwargs": {"net_arch": [256, 256], "n_quantiles": 25},
    },
    "lunarlander": {
        "learning_rate": lambda left: 1.5e-3 * left,  # of the run
        "batch_size": 128,
        "buffer_size": 100_000,
        "learning_starts": 10_000,
        "gamma": 0.995,
        "target_update_interval": 1,
        "train_freq": 256,
        "gradient_steps": -1,
        "exploration_fraction": 0.24,
        "exploration_final_eps": 0.18,
        "policy_kwargs": {"net_arch": [256, 256], "n_quantiles": 170},
    },
}


def qrdqn(task: PeerTask) -> None:
    """Train for the frames of the cell with the Zoo's settings; where it has none, with ours."""
    published = PUBLISHED.get(task.name)
    if published is None:
        qrdqn_equal(task)
    else:
        _train(task, published, num_envs=1)


def qrdqn_equal(task: PeerTask) -> None:
    """Train for the frames of the cell with the settings of our QR-DQN there, as far as it takes them.

    It copies to the target network while it plays, so it plays no longer without updates than between two copies.
    """
    pace = Pace.of(task.settings)
    steps_per_copy = pace.target_period * pace.steps_per_update
    rounds = max(1, min(pace.steps_per_batch, steps_per_copy) // pace.num_envs)  # of all environments

    def learning_rate(left: float) -> float:
        return pace.learning_rate(round(task.total_frames * (1 - left)))

    settings = {
        "learning_rate": learning_rate,
        "batch_size": pace.batch_size,
        "buffer_size": pace.capacity,
        "learning_starts": pace.learning_starts,
        "gamma": pace.gamma,
        "n_steps": pace.num_steps,
        "target_update_interval": steps_per_copy,
        "train_freq": rounds,
        "gradient_steps": max(1, round(rounds * pace.num_envs / pace.steps_per_update)),
        "exploration_fraction": 1.0,
        "max_grad_norm": pace.clip_norm,
        "policy_kwargs": {
            "net_arch": list(pace.hidden_sizes),
            "n_quantiles": pace.num_fractions,
            "optimizer_kwargs": {"eps": pace.adam_epsilon},
        },
    }
    _train(
        task, settings, num_envs=pace.num_envs, epsilon=lambda left: pace.epsilon(round(task.total_frames * (1 - left)))
    )


def _train(
    task: PeerTask, settings: dict[str, Any], *, num_envs: int, epsilon: Callable[[float], float] | None = None
) -> None:
    from sb3_contrib import QRDQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Watch(BaseCallback):
        """Passes every step on to the task."""

        def _on_step(self) -> bool:
            updates = int(getattr(self.model, "_n_updates", 0))
            return task.after_step(self.num_timesteps, updates=updates, act=self._act)

        def _act(self, seen: np.ndarray) -> np.ndarray:
            return self.model.predict(seen, deterministic=True)[0]

    envs = DummyVecEnv([task.make] * num_envs)
    model = QRDQN("MlpPolicy", envs, seed=task.seed, device="cpu", **settings)
    if epsilon is not None:
        model.exploration_schedule = epsilon
    task.begin()
    model.learn(task.total_frames, callback=Watch())
    task.finish(model.policy.quantile_net)
