"""PPO of stable-baselines3, or QR-DQN of sb3-contrib, drives the oval.

python examples/sb3_ppo.py --frames 1_000_000
python examples/sb3_ppo.py --frames 1_000_000 --algorithm qrdqn
"""

import argparse

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecMonitor

from tm_torchrl.envs.sb3 import TrackManiaVecEnv
from tm_torchrl.sim import Starts


class Normalised(BaseFeaturesExtractor):
    """Brings the floats near zero mean and unit deviation."""

    def __init__(self, space, mean, scale):
        super().__init__(space, features_dim=space.shape[0])
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("scale", torch.as_tensor(scale))

    def forward(self, observation):
        """The normalised floats."""
        return (observation - self.mean) / self.scale


parser = argparse.ArgumentParser()
parser.add_argument("--algorithm", choices=["ppo", "qrdqn"], default="ppo")
parser.add_argument("--frames", type=int, default=1_000_000)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

env = TrackManiaVecEnv(32, track="oval", starts=Starts(zone=0.5))
network = {
    "features_extractor_class": Normalised,
    "features_extractor_kwargs": {"mean": env.cars.observation_mean, "scale": env.cars.observation_scale},
    "net_arch": [256, 256],
}
common = {"policy_kwargs": network, "gamma": 0.99, "seed": args.seed, "verbose": 1}
env = VecMonitor(env, info_keywords=("is_finished", "race_time_ms"))
if args.algorithm == "ppo":
    model = PPO("MlpPolicy", env, n_steps=128, batch_size=512, n_epochs=4, ent_coef=0.01, **common)
else:
    from sb3_contrib import QRDQN

    model = QRDQN("MlpPolicy", env, learning_starts=10_000, train_freq=4, gradient_steps=4, batch_size=256, **common)
model.learn(args.frames, log_interval=10)

test = TrackManiaVecEnv(16, track="oval", starts=Starts(jitter_m=0.05, jitter_speed=1.0))
test.seed(args.seed)
observation, laps = test.reset(), []
while len(laps) < 16:
    action, _ = model.predict(observation, deterministic=True)
    observation, _, done, infos = test.step(action)
    laps += [infos[car] for car in np.flatnonzero(done)]
times = [lap["race_time_ms"] / 1000 for lap in laps if lap["is_finished"]]
print(f"{len(times)} of {len(laps)} laps finished", f"the fastest in {min(times):.2f} s" if times else "")
