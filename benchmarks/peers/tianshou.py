"""tianshou's QR-DQN, IQN and FQF in cells of the suite: its own networks, algorithms and replay in a plain loop.

On CartPole with the settings of its own examples, and everywhere with those of ours. (Its examples stop at a
return of 195; its repository has no others of these three for tasks of the suite.)
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Mapping
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


def quantile_algorithm(
    kind: str, model: nn.Module, *, num_actions: int, num_fractions: int, optim: Mapping[str, float], **options: Any
) -> Any:
    """tianshou's QRDQN or IQN over a network; online, target and acting passes draw equally many fractions."""
    with quiet():
        from tianshou.algorithm.modelfree.iqn import IQN, IQNPolicy
        from tianshou.algorithm.modelfree.qrdqn import QRDQN, QRDQNPolicy
        from tianshou.algorithm.optim import AdamOptimizerFactory
    space = gymnasium.spaces.Discrete(num_actions)
    options = {"optim": AdamOptimizerFactory(**optim), "num_quantiles": num_fractions, **options}
    if kind == "qrdqn":
        return QRDQN(policy=QRDQNPolicy(model=model, action_space=space), **options)
    names = ("sample_size", "online_sample_size", "target_sample_size")
    sizes: dict[str, Any] = dict.fromkeys(names, num_fractions)
    return IQN(policy=IQNPolicy(model=model, action_space=space, **sizes), **options)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block in which tianshou's imports do not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _make(task: PeerTask, kind: str, pace: Pace) -> tuple[Any, nn.Module]:
    """tianshou's algorithm, and the network that it trains."""
    with quiet():
        from tianshou.algorithm.modelfree.fqf import FQF, FQFPolicy
        from tianshou.algorithm.optim import AdamOptimizerFactory, RMSpropOptimizerFactory
        from tianshou.utils.net.common import Net
        from tianshou.utils.net.discrete import FractionProposalNetwork, FullQuantileFunction, ImplicitQuantileNetwork
    num, shape = pace.num_fractions, (task.num_actions,)
    *hidden, head = pace.hidden_sizes
    optim = {"lr": pace.learning_rate(0), "eps": pace.adam_epsilon}
    both: dict[str, Any] = {
        "gamma": pace.gamma,
        "n_step_return_horizon": pace.num_steps,
        "target_update_freq": pace.target_period,
    }
    inputs = (task.num_inputs,)
    network: nn.Module
    if kind == "qrdqn":
        network = Net(state_shape=inputs, action_shape=shape, hidden_sizes=[*hidden, head], num_atoms=num)
    else:
        kinds = {"iqn": ImplicitQuantileNetwork, "fqf": FullQuantileFunction}
        trunk = Net(state_shape=inputs, hidden_sizes=hidden)
        network = kinds[kind](preprocess_net=trunk, action_shape=shape, hidden_sizes=[head])
    if kind == "fqf":
        fractions = FractionProposalNetwork(num, hidden[-1])
        space = gymnasium.spaces.Discrete(task.num_actions)
        algorithm: Any = FQF(
            policy=FQFPolicy(model=network, fraction_model=fractions, action_space=space),
            num_fractions=num,
            optim=AdamOptimizerFactory(**optim),
            fraction_optim=RMSpropOptimizerFactory(lr=2.5e-9),
            **both,
        )
        network = nn.ModuleList([network, fractions])
    else:
        algorithm = quantile_algorithm(
            kind, network, num_actions=task.num_actions, num_fractions=num, optim=optim, **both
        )
    algorithm.optim._max_grad_norm = pace.clip_norm  # its constructors do not take it
    return algorithm, network


def train(task: PeerTask, kind: str, published: Pace | None = None) -> None:
    """Train one of the three in a plain loop."""
    pace = published or Pace.of(task.settings)
    torch.manual_seed(task.seed)
    algorithm, network = _make(task, kind, pace)
    policy = algorithm.policy
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
    goes_on = True
    while goes_on:
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
        goes_on = task.after_step(steps, updates=updates, act=act)
    task.finish(network)


def train_as_published(task: PeerTask, kind: str) -> None:
    """Train with the settings of its example; where it has none, with those of our algorithm."""
    train(task, kind, PUBLISHED.get((kind, task.name)))


# What ``suite.yaml`` names; each trains for the frames of the cell.
qrdqn, iqn, fqf = (functools.partial(train_as_published, kind=kind) for kind in ("qrdqn", "iqn", "fqf"))
qrdqn_equal, iqn_equal = (functools.partial(train, kind=kind) for kind in ("qrdqn", "iqn"))
