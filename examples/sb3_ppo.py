"""PPO of stable-baselines3, or QR-DQN of sb3-contrib, drives the oval: all of 16 laps finish after these frames.

python examples/sb3_ppo.py --frames 500_000
python examples/sb3_ppo.py --frames 300_000 --algorithm qrdqn
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

    def forward(self, observation):  # noqa: D102
        return (observation - self.mean) / self.scale


parser = argparse.ArgumentParser()
parser.add_argument("--algorithm", choices=["ppo", "qrdqn"], default="ppo")
parser.add_argument("--frames", type=int, default=500_000)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
cars = TrackManiaVecEnv(32, track="oval", starts=Starts(zone=0.5))
constants = {"mean": cars.cars.observation_mean, "scale": cars.cars.observation_scale}
network = {"features_extractor_class": Normalised, "features_extractor_kwargs": constants, "net_arch": [256, 256]}
arguments = ("MlpPolicy", VecMonitor(cars, info_keywords=("is_finished", "race_time_ms")))
if args.algorithm == "ppo":
    steps = {"n_steps": 128, "batch_size": 512, "n_epochs": 4, "ent_coef": 0.01}
    model = PPO(*arguments, policy_kwargs=network, seed=args.seed, verbose=1, **steps)
else:
    from sb3_contrib import QRDQN

    replay = {"buffer_size": 200_000, "learning_starts": 10_000, "batch_size": 128, "n_steps": 3}
    learn = {"train_freq": 2, "gradient_steps": 4, "target_update_interval": 8_000, "learning_rate": 5e-4}
    greed = {"exploration_initial_eps": 0.3, "exploration_final_eps": 0.03, "exploration_fraction": 0.2}
    model = QRDQN(*arguments, policy_kwargs={**network, "n_quantiles": 32}, seed=args.seed, **replay, **learn, **greed)
model.learn(args.frames)

cars = TrackManiaVecEnv(16, track="oval", starts=Starts(jitter_m=0.05, jitter_speed=1.0))
cars.seed(args.seed)
observation, laps = cars.reset(), []
while len(laps) < 16:
    observation, _, done, infos = cars.step(model.predict(observation, deterministic=True)[0])
    laps += [infos[car] for car in np.flatnonzero(done)]
times = [lap["race_time_ms"] / 1000 for lap in laps if lap["is_finished"]]
print(f"{len(times)} of {len(laps)} laps finished, the fastest in {min(times, default=float('nan')):.2f} s")
