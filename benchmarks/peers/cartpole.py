"""CartPole-v1 to a mean of 475 over 20 greedy episodes: ours and two other libraries', each with its own loop.

sb3-contrib has the settings of RL Baselines3 Zoo for CartPole, tianshou those of our experiment in a plain loop. All
are evaluated alike and equally often; CPU seconds are those of training alone (imports and evaluations excluded).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import sb3, tianshou
from benchmarks.peers.pace import Pace
from benchmarks.peers.task import PeerTask
from tm_torchrl.experiments.run_process import RUN
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.settings import compose_settings
from tm_torchrl.settings.schedules import Linear
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.hooks.evaluate import Evaluate
from tm_torchrl.trainers.loop import run_loop
from tm_torchrl.trainers.run import make_training

TIANSHOU = Pace(
    learning_rate=Linear([(0, 1e-3)]),
    epsilon=Linear([(0, 1.0), (8_000, 0.04)]),
    gamma=0.99,
    num_fractions=8,
    hidden_sizes=(256, 256, 256),
    num_envs=1,
    capacity=50_000,
    learning_starts=1_000,
    batch_size=64,
    steps_per_update=2,
    steps_per_batch=2,
    num_steps=1,
    target_period=100,
)


def settings_of(seed: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """``experiment=cartpole_iqn`` with changes; what counts for all are its frames and evaluations."""
    return compose_settings(["experiment=cartpole_iqn", f"seed={seed}", *overrides])


def run_ours(seed: int, overrides: Sequence[str] = ()) -> dict[str, float]:
    """CPU seconds, steps and best score of our loop without its other hooks."""
    settings = settings_of(seed, overrides)
    training = make_training({**settings, "precision": "float32"}, make_task(settings), log=print)
    rows = settings["evaluation"]
    evaluate = Evaluate(num=rows["num"], every_frames=rows["every_frames"], target_score=rows["target_score"])
    training.hooks = [evaluate]
    training.cpu_started_at = time.process_time()
    run_loop(training)
    training.source.shutdown()
    score = evaluate.best[0] if evaluate.best else 0.0
    return {"cpu_s": training.cpu_s, "steps": float(training.frames), "score": score}


def run_peer(seed: int, train: Callable[[PeerTask], None]) -> dict[str, float]:
    """CPU seconds, steps and best score of another library."""
    with tempfile.TemporaryDirectory() as folder:
        train(PeerTask({**settings_of(seed), "environment": "cartpole"}, Path(folder)))
        rows = read_evaluations(Path(folder) / RUN)
    best = max(row["return_mean"] for row in rows)
    return {"cpu_s": rows[-1]["cpu_s"], "steps": float(rows[-1]["frames"]), "score": best}


def run_sb3(seed: int) -> dict[str, float]:
    """sb3-contrib's QR-DQN."""
    return run_peer(seed, sb3.qrdqn)


def run_tianshou(seed: int) -> dict[str, float]:
    """tianshou's IQN."""
    return run_peer(seed, lambda task: tianshou.train(task, "iqn", TIANSHOU))
