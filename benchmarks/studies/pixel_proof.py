"""Whether an agent that sees images needs them: laps with the right ones, and with those of other places.

python benchmarks/studies/pixel_proof.py RUN --write                     # of experiment=btr_cpu, for instance
python benchmarks/studies/pixel_proof.py RUN --without RUN_2 --write     # a run that saw the same floats and no images

The wrong images are drawn at random from those that the agent saw on its own greedy laps, for each car and step.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from benchmarks.results_file import describe_run, write_results
from tm_torchrl.agents import load_agent
from tm_torchrl.evaluation.disturbed import Disturbed
from tm_torchrl.record.curves import compare_runs
from tm_torchrl.record.run_folder import read_evaluations

NUM_LAPS = 32
SEED = 1_000
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "pixels.png"
KEPT = ("finish_rate", "median_lap_s", "best_lap_s", "medal_of_median", "progress_m")


class Watching(TensorDictModuleBase):
    """Another policy, of whose images one in ten is kept."""

    def __init__(self, policy: TensorDictModuleBase) -> None:
        super().__init__()
        self.policy = policy
        self.in_keys, self.out_keys = policy.in_keys, policy.out_keys
        self.images: list[torch.Tensor] = []
        self._num_calls = 0

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act as the policy does."""
        if self._num_calls % 10 == 0:
            self.images.append(tensordict["pixels"].clone())
        self._num_calls += 1
        return self.policy(tensordict)


def judge(run: Path) -> dict[str, Any]:
    """Laps of a run's best network, under both conditions, and when in training it first finished."""
    agent = load_agent(run)
    watching = Watching(agent.actor)
    right = agent.task.evaluate(watching, num=NUM_LAPS, seed=SEED)[0]
    num_actions = agent.task.network_arguments()["num_actions"]
    disturbed = Disturbed(agent.actor, num_actions=num_actions, images=torch.cat(watching.images), seed=SEED)
    wrong = agent.task.evaluate(disturbed, num=NUM_LAPS, seed=SEED)[0]
    curve = [
        {key: row.get(key) for key in ("frames", "seconds", "finish_rate", "best_lap_s", "median_lap_s")}
        for row in read_evaluations(run)
    ]
    first = next((row for row in curve if row["finish_rate"]), None)
    return {
        "settings": {key: agent.settings[key] for key in ("env", "objective", "replay", "exploration", "seed")},
        "first_finish_minutes": None if first is None else first["seconds"] / 60,
        "right_images": {key: right[key] for key in KEPT},
        "wrong_images": {key: wrong[key] for key in KEPT},
        "curve": curve,
    }


def without_images(run: Path) -> dict[str, Any]:
    """How far a run came that saw no images."""
    rows = read_evaluations(run)
    return {
        "frames": rows[-1]["frames"],
        "best_finish_rate": max(row["finish_rate"] for row in rows),
        "furthest_m": max(max(row["progress_m"]) for row in rows),
    }


def main() -> None:
    """Judge, show, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--without", type=Path, help="a run folder of one that saw no images")
    parser.add_argument("--write", action="store_true", help="benchmarks/results/pixel_proof.json and its picture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = judge(args.run)
    if args.without is not None:
        found["without_images"] = without_images(args.without)
        print("without images:", found["without_images"])
    minutes = found["first_finish_minutes"]
    print("first greedy finish: " + ("never" if minutes is None else f"after {minutes:.1f} minutes of training"))
    for name in ("right_images", "wrong_images"):
        row = found[name]
        metres = sorted(row["progress_m"])[len(row["progress_m"]) // 2]
        finished = f"{row['finish_rate']:.0%} of {NUM_LAPS} laps finished"
        print(f"{name}: {finished}, median {row['median_lap_s']} s, {metres:.0f} m")
    if args.write:
        print(f"wrote {write_results('pixel_proof', {**describe_run(device='cpu'), **found})}")
        compare_runs([args.run] + [args.without] * (args.without is not None)).savefig(PICTURE, dpi=100)
        print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
