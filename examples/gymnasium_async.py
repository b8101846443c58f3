"""Cars in gymnasium's AsyncVectorEnv: one process for each, as any other gymnasium environment.

python examples/gymnasium_async.py --frames 2000

Many cars in one process (leave out ``vectorization_mode``) are faster; this is for code that expects AsyncVectorEnv.
"""

import argparse
import time

import gymnasium
import numpy as np

import tm_torchrl  # noqa: F401  (registers the environment)


def main():
    """Drive with full throttle, steering at random."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    envs = gymnasium.make_vec("tm_torchrl/TrackMania-v0", num_envs=2, vectorization_mode="async", track="oval")
    rng = np.random.default_rng(args.seed)
    envs.reset(seed=args.seed)
    begin, metres = time.perf_counter(), 0.0
    for _ in range(args.frames // envs.num_envs):
        observation, _, _, _, _ = envs.step(rng.integers(0, 3, envs.num_envs))
        metres += 0.05 * observation[:, 58].sum()  # forward speed, m/s
    seconds = time.perf_counter() - begin
    print(f"{args.frames / seconds:,.0f} frames/s, {metres:,.0f} m")
    envs.close()


if __name__ == "__main__":
    main()
