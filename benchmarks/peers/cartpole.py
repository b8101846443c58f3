"""CartPole-v1 to a mean of 475 over 20 greedy episodes: ours and two other libraries', each with its own loop.

The peers' settings are those of their own examples for this task, evaluated as often as ours; CPU seconds are those of
training alone (imports and evaluations excluded).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

TARGET = 475.0
EPISODES = 20
LIMIT = 50_000
CHECK_EVERY = 1_024


def returns_of(act: Any) -> float:
    """The mean return of greedy episodes, ``act`` mapping one observation to an action."""
    env = gymnasium.make("CartPole-v1")
    total = 0.0
    for episode in range(EPISODES):
        seen, _ = env.reset(seed=10_000 + episode)
        is_over = False
        while not is_over:
            seen, reward, ended, cut, _ = env.step(act(seen))
            total += float(reward)
            is_over = ended or cut
    env.close()
    return total / EPISODES


def run_ours(seed: int, folder: Path, overrides: Sequence[str] = ()) -> dict[str, float]:
    """``experiment=cartpole_iqn``, with changes."""
    from tm_torchrl.settings import compose_settings
    from tm_torchrl.tasks.task import make_task
    from tm_torchrl.trainers.hooks.evaluate import Evaluate
    from tm_torchrl.trainers.loop import run_loop
    from tm_torchrl.trainers.run import make_training
    from tm_torchrl.trainers.training import Hook

    settings = compose_settings(["experiment=cartpole_iqn", f"seed={seed}", *overrides])
    task = make_task(settings)
    training = make_training({**settings, "precision": "float32"}, task, log=print)
    spent = {"evaluation": 0.0}
    rows = settings["evaluation"]
    evaluate = Evaluate(num=rows["num"], every_frames=rows["every_frames"], target_score=rows["target_score"])

    class Timed(Hook):
        def after_batch(self, of: Any) -> None:
            begin = time.process_time()
            evaluate.after_batch(of)
            spent["evaluation"] += time.process_time() - begin

    training.hooks = [Timed()]
    begin = time.process_time()
    run_loop(training)
    seconds = time.process_time() - begin - spent["evaluation"]
    training.source.shutdown()
    score = evaluate.best[0] if evaluate.best else 0.0
    return {"cpu_s": seconds, "steps": float(training.frames), "score": score}


def run_sb3(seed: int, folder: Path) -> dict[str, float]:
    """sb3-contrib's QR-DQN with the settings of RL Baselines3 Zoo for CartPole."""
    from sb3_contrib import QRDQN
    from stable_baselines3.common.callbacks import BaseCallback

    spent = {"evaluation": 0.0, "score": 0.0, "steps": 0.0}

    class Check(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps % CHECK_EVERY:
                return True
            begin = time.process_time()
            spent["score"] = max(
                spent["score"], returns_of(lambda seen: int(self.model.predict(seen, deterministic=True)[0]))
            )
            spent["evaluation"] += time.process_time() - begin
            return spent["score"] < TARGET

    model = QRDQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1_000,
        gamma=0.99,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256], "n_quantiles": 10},
        seed=seed,
        device="cpu",
    )
    begin = time.process_time()
    model.learn(LIMIT, callback=Check())
    seconds = time.process_time() - begin - spent["evaluation"]
    return {"cpu_s": seconds, "steps": float(model.num_timesteps), "score": spent["score"]}


class TianshouIQN:
    """tianshou's own IQN network, algorithm and buffer, with the settings of our experiment."""

    def __init__(self, *, hidden: int = 256, num_fractions: int = 8) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from tianshou.algorithm import IQN
            from tianshou.algorithm.algorithm_base import policy_within_training_step
            from tianshou.algorithm.modelfree.iqn import IQNPolicy
            from tianshou.algorithm.optim import AdamOptimizerFactory
            from tianshou.data import Batch, ReplayBuffer
            from tianshou.utils.net.common import Net
            from tianshou.utils.net.discrete import ImplicitQuantileNetwork
        trunk = Net(state_shape=(4,), hidden_sizes=[hidden, hidden])
        network = ImplicitQuantileNetwork(preprocess_net=trunk, action_shape=(2,), hidden_sizes=[hidden])
        self.batch_of, self.within = Batch, policy_within_training_step
        self.policy = IQNPolicy(
            model=network,
            action_space=gymnasium.spaces.Discrete(2),
            sample_size=num_fractions,
            online_sample_size=num_fractions,
            target_sample_size=num_fractions,
        )
        self.algorithm: Any = IQN(
            policy=self.policy,
            optim=AdamOptimizerFactory(lr=1e-3),
            gamma=0.99,
            num_quantiles=num_fractions,
            target_update_freq=100,
        )
        self.buffer = ReplayBuffer(LIMIT)

    def act(self, seen: np.ndarray) -> int:
        """The greedy action."""
        with torch.no_grad():
            return int(self.policy(self.batch_of(obs=seen[None], info={})).act[0])

    def add(self, seen: np.ndarray, action: int, reward: float, ended: bool, cut: bool, after: np.ndarray) -> None:
        """Remember a step."""
        facts = {"rew": float(reward), "terminated": ended, "truncated": cut, "obs_next": after, "info": {}}
        self.buffer.add(self.batch_of(obs=seen, act=action, **facts))

    def update(self, batch_size: int) -> None:
        """One update."""
        with self.within(self.policy):
            self.policy.train()
            self.algorithm.update(self.buffer, batch_size)


def run_tianshou(seed: int, folder: Path) -> dict[str, float]:
    """tianshou's IQN in a plain loop, with our exploration and number of updates."""
    torch.manual_seed(seed)
    draws = np.random.default_rng(seed)
    learner = TianshouIQN()
    env = gymnasium.make("CartPole-v1")
    seen, _ = env.reset(seed=seed)
    best, spent, steps = 0.0, 0.0, 0
    begin = time.process_time()
    while steps < LIMIT and best < TARGET:
        epsilon = max(0.04, 1.0 - 0.96 * steps / 8_000)
        action = int(draws.integers(2)) if draws.random() < epsilon else learner.act(seen)
        after, reward, ended, cut, _ = env.step(action)
        learner.add(seen, action, float(reward), ended, cut, after)
        seen = env.reset()[0] if ended or cut else after
        steps += 1
        if steps > 1_000 and steps % 2 == 0:
            learner.update(64)
        if steps % CHECK_EVERY == 0:
            mark = time.process_time()
            best = max(best, returns_of(learner.act))
            spent += time.process_time() - mark
    return {"cpu_s": time.process_time() - begin - spent, "steps": float(steps), "score": best}
