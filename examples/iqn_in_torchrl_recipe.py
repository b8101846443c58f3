"""TorchRL's DQN recipe for CartPole, with IQN's loss. The lines marked IQN are those that differ from DQN's.

Environment, collector, replay buffer, exploration and target updater are TorchRL's. Training ends after --frames, or as
soon as the greedy policy balances the pole for 475 of 500 steps in the mean over ten episodes: after 6,000 to 19,000
frames in benchmarks/results/examples/iqn_in_torchrl_recipe.json.

python examples/iqn_in_torchrl_recipe.py --seed 0
"""

from __future__ import annotations

import argparse

import torch
from tensordict.nn import TensorDictSequential
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import ExplorationType, GymEnv, set_exploration_type
from torchrl.modules import EGreedyModule
from torchrl.objectives import SoftUpdate

from tm_torchrl.modules import MLPIQNetwork, QuantileActor  # IQN
from tm_torchrl.objectives import IQNLoss  # IQN

FRAMES_PER_BATCH, UPDATES_PER_BATCH, BATCH_SIZE = 256, 128, 64
SOLVED = 475


def evaluate(actor: torch.nn.Module, *, seed: int, num_episodes: int = 10) -> float:
    """The mean return of greedy episodes."""
    env = GymEnv("CartPole-v1")
    env.set_seed(10_000 + seed)
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        returns = [env.rollout(500, actor)["next", "reward"].sum() for _ in range(num_episodes)]
    return float(torch.stack(returns).mean())


def train(*, seed: int, frames: int) -> list[tuple[int, float]]:
    """Train, and return what evaluations found: frames so far, and mean return."""
    torch.manual_seed(seed)
    env = GymEnv("CartPole-v1")
    env.set_seed(seed)
    actor = QuantileActor(MLPIQNetwork(4, 2), spec=env.action_spec, num_fractions=8)  # IQN; DQN: QValueActor(MLP(4, 2))
    explore = EGreedyModule(env.action_spec, eps_init=1.0, eps_end=0.04, annealing_num_steps=8_000)
    collector = Collector(
        env,
        TensorDictSequential(actor, explore),
        frames_per_batch=FRAMES_PER_BATCH,
        total_frames=frames,
        init_random_frames=1_000,
        auto_register_policy_transforms=False,
    )
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(100_000), batch_size=BATCH_SIZE)
    loss = IQNLoss(actor)  # IQN; DQN: DQNLoss
    loss.make_value_estimator("munchausen", gamma=0.99)  # IQN; without the name, the targets are those of the paper
    updater = SoftUpdate(loss, eps=0.9)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3, fused=True)
    results = []
    for number, steps in enumerate(collector, start=1):
        buffer.extend(steps)
        explore.step(steps.numel())
        for _ in range(UPDATES_PER_BATCH):
            optimizer.zero_grad()
            loss(buffer.sample())["loss"].backward()
            optimizer.step()
            updater.step()
        if number % 8 == 0 or number * FRAMES_PER_BATCH >= frames:
            results.append((number * FRAMES_PER_BATCH, evaluate(actor, seed=seed)))
            print("{:>7,} frames: return {:.1f}".format(*results[-1]), flush=True)
            if results[-1][1] >= SOLVED:
                break
    collector.shutdown()
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=100_000)
    arguments = parser.parse_args()
    train(seed=arguments.seed, frames=arguments.frames)
