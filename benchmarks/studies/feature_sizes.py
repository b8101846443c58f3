"""How large the features of images and floats are before training, and how much of them differs between states.

    python benchmarks/studies/feature_sizes.py

A head sees little of the floats beside an image whose features are many times as large, and that the most is the same
in all states. Means over states of a drive with random actions, and over four seeds: the norm of the features, and the
norm of their differences from their mean over states.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tensordict import TensorDictBase

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tm_torchrl.algorithms.make import make_actor
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task

RAW = "objective.network.image.layer_norm=false"
ARMS = {
    "classic": ["network=classic"],
    "IMPALA, width 1": ["network=impala", RAW],
    "IMPALA, width 2": ["network=impala", RAW, "objective.network.image.width=2"],
    "BTR, width 2": ["network=btr", "exploration=noisy", RAW],
    "BTR, width 2, features normalised": ["network=btr", "exploration=noisy"],
}
NUM_SEEDS = 4


def visited(settings: list[str]) -> TensorDictBase:
    """256 states of a drive with random actions."""
    env = make_task(compose_settings(settings)).make_env(num_envs=64, seed=0)
    try:
        return env.rollout(40, break_when_any_done=False).reshape(-1)[::10]
    finally:
        env.close()


@torch.no_grad()
def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    steps = visited(["env.pixels=true"])
    table = Table("network", "image: norm", "image: differs", "floats: norm", "floats: differs")
    for name, settings in ARMS.items():
        rows = []
        for seed in range(NUM_SEEDS):
            torch.manual_seed(seed)
            composed = compose_settings([*settings, "env.pixels=true"])
            encoder = make_actor(composed, make_task(composed)).quantile_module.network.encoder
            found = [encoder.pixels(steps["pixels"]), encoder.floats(steps["observation"])]
            norms = [part.norm(dim=1).mean() for features in found for part in (features, features - features.mean(0))]
            rows.append(torch.stack(norms))
        table.add_row(name, *(f"{norm:.1f}" for norm in torch.stack(rows).mean(0).tolist()))
    Console().print(table)


if __name__ == "__main__":
    main()
