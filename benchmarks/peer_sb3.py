"""sb3-contrib's QR-DQN as a peer of the suite, with the settings that RL Baselines3 Zoo publishes for it.

Those of LunarLander and Acrobot are from memory and must be compared with the Zoo's before results are quoted; it has
none for the simulator, which gets LunarLander's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peer_task import PeerTask

SETTINGS: dict[str, dict[str, Any]] = {
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
        "learning_rate": 1.5e-3,
        "batch_size": 128,
        "buffer_size": 100_000,
        "learning_starts": 10_000,
        "gamma": 0.995,
        "target_update_interval": 1,
        "tau": 1.0,
        "train_freq": 256,
        "gradient_steps": -1,
        "exploration_fraction": 0.24,
        "exploration_final_eps": 0.18,
        "policy_kwargs": {"net_arch": [256, 256], "n_quantiles": 170},
    },
}
OTHERS = "lunarlander"


def qrdqn(task: PeerTask) -> None:
    """Train for the frames of the cell."""
    from sb3_contrib import QRDQN
    from stable_baselines3.common.callbacks import BaseCallback

    class Watch(BaseCallback):
        """Hands every step to the task."""

        def _on_step(self) -> bool:
            updates = int(getattr(self.model, "_n_updates", 0))
            task.after_step(self.num_timesteps, updates=updates, act=self._act)
            return self.num_timesteps < task.total_frames

        def _act(self, seen: np.ndarray) -> np.ndarray:
            return self.model.predict(seen, deterministic=True)[0]

    settings = SETTINGS.get(task.name, SETTINGS[OTHERS])
    model = QRDQN("MlpPolicy", task.make(), seed=task.seed, device="cpu", **settings)
    task.begin()
    model.learn(task.total_frames, callback=Watch())
    task.finish(model.policy.quantile_net)
