"""tianshou's QR-DQN, IQN and FQF as peers of the suite: its own networks, algorithms and replay in a plain loop.

Settings are those of its own examples for CartPole where they are better than ours, else ours: 8 fractions for IQN and
FQF, 32 for QR-DQN, two layers of 256, double targets as tianshou has them, epsilon that falls over a sixth of the
frames. They must be compared with its examples before results are quoted.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

from benchmarks.peer_task import PeerTask

HIDDEN = 256


@dataclass(frozen=True)
class Pace:
    """How it learns.

    Args:
        learning_rate: of Adam.
        gamma: discount.
        batch_size: transitions.
        learning_starts: steps without updates.
        steps_per_update: between updates.
        target_period: updates between copies of the target network.
        last_epsilon: when exploration has fallen.
    """

    learning_rate: float = 1e-3
    gamma: float = 0.99
    batch_size: int = 64
    learning_starts: int = 1_000
    steps_per_update: int = 2
    target_period: int = 100
    last_epsilon: float = 0.04


PACES = {
    "cartpole": Pace(),
    "acrobot": Pace(),
    "lunarlander": Pace(learning_rate=5e-4, batch_size=128, learning_starts=5_000, steps_per_update=4),
}
OTHERS = Pace(learning_rate=5e-4, gamma=0.995, batch_size=128, learning_starts=5_000, steps_per_update=16)


def qrdqn(task: PeerTask) -> None:
    """Train for the frames of the cell."""
    _train(task, "qrdqn", num_fractions=32)


def iqn(task: PeerTask) -> None:
    """Train for the frames of the cell."""
    _train(task, "iqn", num_fractions=8)


def fqf(task: PeerTask) -> None:
    """Train for the frames of the cell."""
    _train(task, "fqf", num_fractions=8)


def _make(task: PeerTask, kind: str, *, num_fractions: int, pace: Pace) -> tuple[Any, Any, nn.Module]:
    """tianshou's algorithm, its policy, and the network of both."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tianshou.algorithm.modelfree.fqf import FQF, FQFPolicy
        from tianshou.algorithm.modelfree.iqn import IQN, IQNPolicy
        from tianshou.algorithm.modelfree.qrdqn import QRDQN, QRDQNPolicy
        from tianshou.algorithm.optim import AdamOptimizerFactory, RMSpropOptimizerFactory
        from tianshou.utils.net.common import Net
        from tianshou.utils.net.discrete import FractionProposalNetwork, FullQuantileFunction, ImplicitQuantileNetwork
    space, shape = gymnasium.spaces.Discrete(task.num_actions), (task.num_actions,)
    both: dict[str, Any] = {
        "optim": AdamOptimizerFactory(lr=pace.learning_rate),
        "gamma": pace.gamma,
        "target_update_freq": pace.target_period,
    }
    if kind == "qrdqn":
        network = Net(
            state_shape=(task.num_inputs,), action_shape=shape, hidden_sizes=[HIDDEN] * 3, num_atoms=num_fractions
        )
        plain = QRDQNPolicy(model=network, action_space=space)
        return QRDQN(policy=plain, num_quantiles=num_fractions, **both), plain, network
    trunk = Net(state_shape=(task.num_inputs,), hidden_sizes=[HIDDEN, HIDDEN])
    if kind == "iqn":
        implicit = ImplicitQuantileNetwork(preprocess_net=trunk, action_shape=shape, hidden_sizes=[HIDDEN])
        names = ("sample_size", "online_sample_size", "target_sample_size")
        sizes: dict[str, Any] = dict.fromkeys(names, num_fractions)
        sampling = IQNPolicy(model=implicit, action_space=space, **sizes)
        return IQN(policy=sampling, num_quantiles=num_fractions, **both), sampling, implicit
    full = FullQuantileFunction(preprocess_net=trunk, action_shape=shape, hidden_sizes=[HIDDEN])
    fractions = FractionProposalNetwork(num_fractions, HIDDEN)
    proposing = FQFPolicy(model=full, fraction_model=fractions, action_space=space)
    slow = RMSpropOptimizerFactory(lr=2.5e-9)
    algorithm = FQF(policy=proposing, num_fractions=num_fractions, fraction_optim=slow, **both)
    return algorithm, proposing, nn.ModuleList([full, fractions])


def _train(task: PeerTask, kind: str, *, num_fractions: int) -> None:
    pace = PACES.get(task.name, OTHERS)
    torch.manual_seed(task.seed)
    algorithm, policy, network = _make(task, kind, num_fractions=num_fractions, pace=pace)
    from tianshou.data import Batch, ReplayBuffer
    from tianshou.utils.torch_utils import policy_within_training_step

    def act(seen: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            policy.eval()
            return np.asarray(policy(Batch(obs=seen, info={})).act)

    draws, env, buffer = np.random.default_rng(task.seed), task.make(), ReplayBuffer(min(task.total_frames, 300_000))
    seen, _ = env.reset(seed=task.seed)
    updates = 0
    task.begin()
    for step in range(1, task.total_frames + 1):
        epsilon = max(pace.last_epsilon, 1.0 - step / (task.total_frames / 6))
        action = int(draws.integers(task.num_actions)) if draws.random() < epsilon else int(act(seen[None])[0])
        after, reward, ended, cut, _ = env.step(action)
        facts = {"rew": float(reward), "terminated": ended, "truncated": cut, "obs_next": after, "info": {}}
        buffer.add(Batch(obs=seen, act=action, **facts))
        seen = env.reset()[0] if ended or cut else after
        if step > pace.learning_starts and step % pace.steps_per_update == 0:
            with policy_within_training_step(policy):
                policy.train()
                algorithm.update(buffer, pace.batch_size)
            updates += 1
        task.after_step(step, updates=updates, act=act)
    task.finish(network)
