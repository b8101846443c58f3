"""What networks that see images and floats learn on the default track, and which of the two each one uses.

    python benchmarks/studies/fusion.py --seeds 3 --write

Networks of 480,000 to 580,000 parameters with the settings of ``experiment=iqn_pixels``, whose floats show the
line ahead too. The best network of each run then drives with the right observations, with images of other places, and
with floats of other places; these are drawn for each car and step from what the agent saw on its own laps. Seeds that
are in the results file already, with the same settings, are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import torch
from rich.console import Console
from rich.table import Table
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from benchmarks.results_file import RESULTS, describe_run, write_results
from tm_torchrl.agents import load_agent
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.trainers import train

FRAMES = 128_000
NUM_LAPS, SEED = 32, 1_000
NETWORK = "objective.network"
SMALL = f"{NETWORK}.hidden_sizes=[192,192]"
TORCH_WEIGHTS = f"{NETWORK}.initialization=null"
ARMS = {
    "convolutions": ["network=classic", f"{NETWORK}.head_size=256", SMALL],
    "convolutions, transformer": [
        "network=post_concat",
        f"{NETWORK}.image.stem_stride=2",
        f"{NETWORK}.fusion.size=96",
        f"{NETWORK}.fusion.num_layers=1",
        TORCH_WEIGHTS,
    ],
    "vision transformer": ["network=vit", f"{NETWORK}.image.patch_size=16", f"{NETWORK}.image.size=96", SMALL],
    "unified transformer": ["network=unified", f"{NETWORK}.image.patch_size=16", TORCH_WEIGHTS],
}
COMMON = ["collector=single", "evaluation.every_frames=12_800", "device=cpu", "log.tensorboard=false"]
KEPT = ("frames", "seconds", "cpu_s", "updates", "finish_rate", "median_lap_s")
WRONG = {"images": "pixels", "floats": "observation"}


class Elsewhere(TensorDictModuleBase):
    """A policy that sees one of its observations as it was at other places; one in ten of the right ones is kept.

    Args:
        policy: The policy.
        key: The observation.
        seen: What it sees instead; ``None`` for the right one.
    """

    def __init__(self, policy: TensorDictModuleBase, *, key: str, seen: torch.Tensor | None = None) -> None:
        super().__init__()
        self.policy, self.key, self.seen = policy, key, seen
        self.in_keys, self.out_keys = policy.in_keys, policy.out_keys
        self.kept: list[torch.Tensor] = []
        self._num_calls = 0
        self._random = torch.Generator().manual_seed(SEED)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act as the policy does."""
        right = tensordict[self.key]
        if self._num_calls % 10 == 0:
            self.kept.append(right.clone())
        self._num_calls += 1
        if self.seen is None:
            return self.policy(tensordict)
        chosen = torch.randint(len(self.seen), (len(right),), generator=self._random)
        acted = self.policy(tensordict.copy().set(self.key, self.seen[chosen]))
        return tensordict.set("action", acted["action"])


def measure(settings: list[str], *, seed: int, frames: int) -> dict[str, Any]:
    """The evaluations of a run, and how its best network drives with right and with wrong observations."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        end = [f"seed={seed}", f"total_frames={frames}"]
        train(["experiment=iqn_pixels", *settings, *end, *COMMON], folder=run, is_quiet=True)
        rows, agent = read_evaluations(run), load_agent(run)
    found: dict[str, Any] = {name: [row[name] for row in rows] for name in KEPT}
    found["parameters"] = sum(each.numel() for each in agent.actor.parameters())
    for name, key in WRONG.items():
        watching = Elsewhere(agent.actor, key=key)
        found["right"] = agent.task.evaluate(watching, num=NUM_LAPS, seed=SEED)[0]["finish_rate"]
        wrong = Elsewhere(agent.actor, key=key, seen=torch.cat(watching.kept))
        found[f"wrong_{name}"] = agent.task.evaluate(wrong, num=NUM_LAPS, seed=SEED)[0]["finish_rate"]
    return found


TITLES = (
    *("network", "parameters", "updates per CPU s of the run", "frames until half finish", "finished, last quarter"),
    *("best median lap", "right", "wrong images", "wrong floats"),
)


def rows_of(arms: dict[str, dict[str, dict[str, Any]]]) -> list[tuple[str, ...]]:
    """A row for each network, with a value for each seed."""
    rows = []
    for name, of_seeds in arms.items():
        runs = [of_seeds[seed] for seed in sorted(of_seeds)]
        speed = ", ".join(f"{run['updates'][-1] / run['cpu_s'][-1]:.1f}" for run in runs)
        laps = [min((lap for lap in run["median_lap_s"] if lap), default=None) for run in runs]
        finished = [[last_quarter(run) for run in runs]]
        finished += [[run[kind] for run in runs] for kind in ("right", "wrong_images", "wrong_floats")]
        shares = [", ".join(f"{share:.0%}" for share in each) for each in finished]
        best = ", ".join("-" if lap is None else f"{lap:.1f} s" for lap in laps)
        until = ", ".join(map(until_half, runs))
        rows.append((name, f"{runs[0]['parameters']:,}", speed, until, shares[0], best, *shares[1:]))
    return rows


def until_half(run: dict[str, Any]) -> str:
    """Frames until the first evaluation in which half of the laps finish."""
    evaluated = zip(run["frames"], run["finish_rate"], strict=True)
    return next((f"{frames:,}" for frames, rate in evaluated if rate >= 0.5), "never")


def last_quarter(run: dict[str, Any]) -> float:
    """Share of finished laps in the evaluations of the last quarter."""
    evaluated = zip(run["frames"], run["finish_rate"], strict=True)
    return statistics.mean(rate for frames, rate in evaluated if frames > 0.75 * run["frames"][-1])


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="all by default")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "fusion.json"
    settings = {"frames": arguments.frames, "common": COMMON, "arms": ARMS}
    before = json.loads(path.read_text("utf-8")) if path.exists() else {"settings": {"arms": {}}, "arms": {}}
    alike = all(before["settings"].get(name) == settings[name] for name in ("frames", "common"))
    arms: dict[str, dict[str, Any]] = {
        name: of_seeds
        for name, of_seeds in before["arms"].items()
        if alike and before["settings"]["arms"].get(name) == ARMS.get(name)
    }
    for seed in range(arguments.seeds):
        for name in arguments.arms:
            found = arms.setdefault(name, {})
            if str(seed) not in found:
                found[str(seed)] = measure(ARMS[name], seed=seed, frames=arguments.frames)
                print(f"{name}, seed {seed}: {last_quarter(found[str(seed)]):.0%} finish", flush=True)
                if arguments.write:
                    write_results(path.stem, {**describe_run(device="cpu"), "settings": settings, "arms": arms})
    table = Table(*TITLES)
    for row in rows_of(arms):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
