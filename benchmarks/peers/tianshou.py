"""tianshou's QR-DQN, IQN and FQF as peers of the suite: its own networks, algorithms and replay in a plain loop.

On CartPole with the settings of its own examples, and everywhere with those of ours. (Its examples are content with a
return of 195, its repository has no others of these three for tasks of the suite.)
"""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

from benchmarks.peers.pace import Pace
from benchmarks.peers.task import PeerTask
from tm_torchrl.settings.schedules import Linear

# test/discrete/test_{qrdqn,iqn,fqf}.py of thu-ml/tianshou at 03132cc and 002ffd9, read in November 2026.
_EXAMPLE: dict[str, Any] = {
    "epsilon": Linear([(10_000, 0.1), (50_000, 0.01)]),
    "gamma": 0.9,
    "num_envs": 10,
    "capacity": 20_000,
    "learning_starts": 640,
    "batch_size": 64,
    "steps_per_update": 10,
    "steps_per_batch": 10,
    "num_steps": 3,
    "target_period": 320,
}
PUBLISHED = {
    ("qrdqn", "cartpole"): Pace(
        learning_rate=Linear([(0, 1e-3)]), num_fractions=200, hidden_sizes=(128, 128, 128, 128), **_EXAMPLE
    ),
    ("iqn", "cartpole"): Pace(
        learning_rate=Linear([(0, 3e-3)]), num_fractions=8, hidden_sizes=(64, 64, 64), **_EXAMPLE
    ),
    ("fqf", "cartpole"): Pace(
        learning_rate=Linear([(0, 3e-3)]), num_fractions=32, hidden_sizes=(64, 64, 64, 64, 64), **_EXAMPLE
    ),
}


def qrdqn(task: PeerTask) -> None:
    """Train for the frames of the cell with its example's settings; where it has none, with ours."""
    _train(task, "qrdqn", PUBLISHED.get(("qrdqn", task.name)))


def qrdqn_equal(task: PeerTask) -> None:
    """Train for the frames of the cell with the settings of our QR-DQN there, as far as it takes them."""
    _train(task, "qrdqn")


def iqn(task: PeerTask) -> None:
    """Train for the frames of the cell with its example's settings; where it has none, with ours."""
    _train(task, "iqn", PUBLISHED.get(("iqn", task.name)))


def iqn_equal(task: PeerTask) -> None:
    """Train for the frames of the cell with the settings of our IQN there, as far as it takes them."""
    _train(task, "iqn")


def fqf(task: PeerTask) -> None:
    """Train for the frames of the cell with its example's settings; where it has none, with ours."""
    _train(task, "fqf", PUBLISHED.get(("fqf", task.name)))


def _make(task: PeerTask, kind: str, pace: Pace) -> tuple[Any, Any, nn.Module]:
    """tianshou's algorithm, its policy, and the network of both."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tianshou.algorithm.modelfree.fqf import FQF, FQFPolicy
        from tianshou.algorithm.modelfree.iqn import IQN, IQNPolicy
        from tianshou.algorithm.modelfree.qrdqn import QRDQN, QRDQNPolicy
        from tianshou.algorithm.optim import AdamOptimizerFactory, RMSpropOptimizerFactory
        from tianshou.utils.net.common import Net
        from tianshou.utils.net.discrete import FractionProposalNetwork, FullQuantileFunction, ImplicitQuantileNetwork
    space, shape, num = gymnasium.spaces.Discrete(task.num_actions), (task.num_actions,), pace.num_fractions
    both: dict[str, Any] = {
        "optim": AdamOptimizerFactory(lr=pace.learning_rate(0), eps=pace.adam_epsilon),
        "gamma": pace.gamma,
        "n_step_return_horizon": pace.num_steps,
        "target_update_freq": pace.target_period,
    }
    if kind == "qrdqn":
        network = Net(
            state_shape=(task.num_inputs,), action_shape=shape, hidden_sizes=list(pace.hidden_sizes), num_atoms=num
        )
        plain = QRDQNPolicy(model=network, action_space=space)
        return _clipped(QRDQN(policy=plain, num_quantiles=num, **both), pace), plain, network
    *hidden, head = pace.hidden_sizes
    trunk = Net(state_shape=(task.num_inputs,), hidden_sizes=hidden)
    if kind == "iqn":
        implicit = ImplicitQuantileNetwork(preprocess_net=trunk, action_shape=shape, hidden_sizes=[head])
        names = ("sample_size", "online_sample_size", "target_sample_size")
        sizes: dict[str, Any] = dict.fromkeys(names, num)
        sampling = IQNPolicy(model=implicit, action_space=space, **sizes)
        return _clipped(IQN(policy=sampling, num_quantiles=num, **both), pace), sampling, implicit
    full = FullQuantileFunction(preprocess_net=trunk, action_shape=shape, hidden_sizes=[head])
    fractions = FractionProposalNetwork(num, hidden[-1])
    proposing = FQFPolicy(model=full, fraction_model=fractions, action_space=space)
    slow = RMSpropOptimizerFactory(lr=2.5e-9)
    algorithm = FQF(policy=proposing, num_fractions=num, fraction_optim=slow, **both)
    return _clipped(algorithm, pace), proposing, nn.ModuleList([full, fractions])


def _clipped(algorithm: Any, pace: Pace) -> Any:
    algorithm.optim._max_grad_norm = pace.clip_norm  # its constructors do not take it
    return algorithm


def _train(task: PeerTask, kind: str, published: Pace | None = None) -> None:
    pace = published or Pace.of(task.settings)
    torch.manual_seed(task.seed)
    algorithm, policy, network = _make(task, kind, pace)
    from tianshou.data import Batch, VectorReplayBuffer
    from tianshou.utils.torch_utils import policy_within_training_step

    def act(seen: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            policy.eval()
            return np.asarray(policy(Batch(obs=seen, info={})).act)

    draws = np.random.default_rng(task.seed)
    envs = [task.make() for _ in range(pace.num_envs)]
    buffer = VectorReplayBuffer(min(task.total_frames, pace.capacity), buffer_num=len(envs))
    seen = np.stack([env.reset(seed=task.seed + k)[0] for k, env in enumerate(envs)])
    steps = updates = 0
    task.begin()
    while steps < task.total_frames:
        is_random = draws.random(len(envs)) < pace.epsilon(steps)
        actions = np.where(is_random, draws.integers(task.num_actions, size=len(envs)), act(seen))
        taken = [env.step(int(action)) for env, action in zip(envs, actions, strict=True)]
        after, rewards, ended, cut = (np.array([step[k] for step in taken]) for k in range(4))
        facts = {"rew": rewards, "terminated": ended, "truncated": cut, "done": ended | cut, "info": [{}] * len(envs)}
        buffer.add(Batch(obs=seen, act=actions, obs_next=after, **facts), buffer_ids=np.arange(len(envs)))
        seen = np.stack(
            [env.reset()[0] if over else now for env, over, now in zip(envs, ended | cut, after, strict=True)]
        )
        steps += len(envs)
        is_due = steps % pace.steps_per_batch < len(envs)
        while is_due and updates < (steps - pace.learning_starts) // pace.steps_per_update:
            for group in algorithm.optim._optim.param_groups:
                group["lr"] = pace.learning_rate(steps)
            with policy_within_training_step(policy):
                policy.train()
                algorithm.update(buffer, pace.batch_size)
            updates += 1
        task.after_step(steps, updates=updates, act=act)
    task.finish(network)
