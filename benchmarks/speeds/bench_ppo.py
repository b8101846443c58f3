"""CPU seconds of PPO beside those of stable-baselines3 with equal settings, on CartPole.

python benchmarks/speeds/bench_ppo.py            # about a minute; needs the extra "bench"
python benchmarks/speeds/bench_ppo.py --write    # and keep benchmarks/results/ppo_cpu.json

Both play the same numbers of frames in 8 environments of one process with one thread, and make the same updates; each
takes its turn after every rollout. Ours shares the first of two layers between policy and value, theirs shares none.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gymnasium
import torch

from benchmarks.results_file import add_results_argument, describe_run, write_results
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.malloc import keep_freed_memory
from tm_torchrl.trainers.run import make_training

NUM_ENVS = 8
CASES = {  # steps of each environment, frames of a minibatch, epochs
    "RL Baselines3 Zoo's settings for CartPole": (32, 256, 20),
    "minibatches of 64, as SB3's default": (256, 64, 10),
}
WARM_UP = 3  # rollouts


def ours(num_steps: int, minibatch_size: int, num_epochs: int) -> Callable[[], tuple[float, float]]:
    """A function that makes one rollout and its updates, and returns the CPU seconds of both."""
    frames = NUM_ENVS * num_steps
    settings = compose_settings(
        [
            "experiment=cartpole_ppo",
            f"collector.frames_per_batch={frames}",
            f"rollouts.frames_per_update={frames}",
            f"rollouts.minibatch_size={minibatch_size}",
            f"rollouts.num_epochs={num_epochs}",
        ]
    )
    training = make_training(settings, make_task(settings))
    training.set_schedules()
    batches, memory, learner = iter(training.source), training.algorithm.memory, training.algorithm.learner

    def turn() -> tuple[float, float]:
        begin = time.process_time()
        steps = next(batches)
        collected = time.process_time()
        training.frames += steps.numel()
        training.episodes.add(steps)
        memory.extend(steps)
        training.set_schedules()
        for batch in memory.batches():
            learner.update(batch)
            memory.seen(batch)
        training.source.push_weights()
        return collected - begin, time.process_time() - collected

    return turn


def theirs(num_steps: int, minibatch_size: int, num_epochs: int) -> Callable[[], tuple[float, float]]:
    """The same for stable-baselines3."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    model: Any = PPO(
        "MlpPolicy",
        DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * NUM_ENVS),
        n_steps=num_steps,
        batch_size=minibatch_size,
        n_epochs=num_epochs,
        gamma=0.98,
        gae_lambda=0.8,
        learning_rate=1e-3,
        device="cpu",
        seed=0,
    )
    _, callback = model._setup_learn(10**9)

    def turn() -> tuple[float, float]:
        begin = time.process_time()
        model.collect_rollouts(model.env, callback, model.rollout_buffer, n_rollout_steps=num_steps)
        collected = time.process_time()
        model.train()
        return collected - begin, time.process_time() - collected

    return turn


def measure(case: tuple[int, int, int], rollouts: int) -> dict[str, float]:
    """Medians over rollouts: CPU microseconds of a frame, and the ratio of ours to theirs."""
    turns = {"ours": ours(*case), "sb3": theirs(*case)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for _ in range(rollouts + WARM_UP):
        for name, turn in turns.items():
            times[name].append(turn())
    frames = NUM_ENVS * case[0]
    found: dict[str, float] = {}
    for name, rows in times.items():
        for part, column in zip(("collect", "learn"), zip(*rows[WARM_UP:], strict=True), strict=True):
            found[f"{name}_{part}_us"] = round(1e6 * statistics.median(column) / frames, 1)
    pairs = zip(times["ours"][WARM_UP:], times["sb3"][WARM_UP:], strict=True)
    found["ratio"] = round(statistics.median(sum(mine) / sum(other) for mine, other in pairs), 3)
    return found


def main() -> None:
    """Measure, print, and keep the results if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24_576, help="frames of each library and case")
    parser.add_argument("--write", action="store_true", help="keep benchmarks/results/ppo_cpu.json")
    add_results_argument(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    results: dict[str, Any] = {**describe_run(device="cpu"), "num_envs": NUM_ENVS, "cases": {}}
    for name, case in CASES.items():
        found = measure(case, rollouts=max(4, arguments.frames // (NUM_ENVS * case[0])))
        results["cases"][name] = {"num_steps": case[0], "minibatch_size": case[1], "num_epochs": case[2], **found}
        print(name, found, flush=True)
    if arguments.write:
        print(write_results("ppo_cpu", results, folder=arguments.results))


if __name__ == "__main__":
    main()
