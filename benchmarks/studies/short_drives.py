"""Settings of the default drive compared over seeds, in 240,000 frames unless their name says otherwise.

    python benchmarks/studies/short_drives.py --seeds 5 --write
    python benchmarks/studies/short_drives.py --arms noise default --write

The share of finished laps is that of all evaluations in the last quarter of the frames. Seeds that are in the results
file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import RESULTS, describe_run, write_results
from benchmarks.studies import FORMER_WEIGHTS
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.trainers import train

FRAMES = 240_000
COMMON = [
    *("experiment=short_drive", f"total_frames={FRAMES}", "evaluation.every_frames=20_480", "device=cpu"),
    FORMER_WEIGHTS,
]
NOISE = [*COMMON, "exploration=noisy", "objective.network.linear=noisy"]
BLOCKS = [*COMMON, "env.action_block=5", "env.num_previous_actions=25"]
DEFAULT = "default"
LONG_BLOCKS = "blocks, mixer=embedding, 480,000 frames"
SMALL_NOISE = "objective.network.linear={_target_: tm_torchrl.modules.NoisyLinear, _partial_: true, sigma_init: 0.02}"
NOISES = {
    "noise": NOISE,
    "noise that begins at 0.02": [*NOISE, SMALL_NOISE],
    "noise without patience": [*NOISE, "exploration.patience=null"],
    "noise of each car": [*NOISE, "exploration.per_car=true"],
    "noise of each car, held for 6 steps": [*NOISE, "exploration.per_car=true", "exploration.every=6"],
    "noise and held actions": [*NOISE, "exploration.epsilon=0.1", "exploration.mean_steps=8"],
}
MIXERS = ("embedding", "mlp", "conv", "gru", "attention")
BLOCKS_OF_FIVE = {
    "blocks, one linear layer": BLOCKS,
    **{f"blocks, mixer={kind}": [*BLOCKS, f"objective.network.mixer={kind}"] for kind in MIXERS},
    LONG_BLOCKS: [*BLOCKS, "objective.network.mixer=embedding", "total_frames=480_000"],
}
FAILURE = "a failure costs 2"
ARMS = {DEFAULT: COMMON, **NOISES, **BLOCKS_OF_FIVE}
ARMS |= {f"{arm}, {FAILURE}": [*ARMS[arm], "env.reward.failure=-2.0"] for arm in (DEFAULT, "noise", LONG_BLOCKS)}


def measure(settings: list[str], *, seed: int) -> dict[str, list[Any]]:
    """Of each evaluation: frames, share of finished laps, median and best lap in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train([*settings, f"seed={seed}"], folder=run, is_quiet=True)
        rows = read_evaluations(run)
    return {name: [row[name] for row in rows] for name in ("frames", "finish_rate", "median_lap_s", "best_lap_s")}


def measured(
    path: Path, settings: dict[str, list[str]], *, arms: list[str], seeds: int, is_kept: bool
) -> dict[str, dict[str, Any]]:
    """The runs of all arms by seed: those of the results file, and those that were missing.

    Args:
        path: The results file.
        settings: Settings of each arm.
        arms: The arms to complete.
        seeds: How many seeds each of them is to have.
        is_kept: Whether the file is written after each run.
    """
    old: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
    runs: dict[str, dict[str, Any]] = {arm: old.get(arm, {}) for arm in settings}
    for seed in range(seeds):
        for arm in arms:
            if str(seed) not in runs[arm]:
                runs[arm][str(seed)] = measure(settings[arm], seed=seed)
                if is_kept:
                    write_results(path.stem, {**describe_run(device="cpu"), "runs": runs})
    return runs


def last_quarter(run: dict[str, list[Any]]) -> float:
    """The mean share of finished laps in the evaluations of the last quarter."""
    begin = 0.75 * run["frames"][-1]
    rates = [rate for frames, rate in zip(run["frames"], run["finish_rate"], strict=True) if frames > begin]
    return sum(rates) / len(rates)


def first_finish(run: dict[str, list[Any]]) -> int | None:
    """Frames until an evaluation in which half the laps finish."""
    pairs = zip(run["frames"], run["finish_rate"], strict=True)
    return next((frames for frames, rate in pairs if rate >= 0.5), None)


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="all by default")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "short_drives.json"
    runs = measured(path, ARMS, arms=arguments.arms, seeds=arguments.seeds, is_kept=arguments.write)
    table = Table("settings", "finished, last quarter", "half finish after", "last median lap")
    for arm, found in runs.items():
        if not found:
            continue
        shown = [[f"{last_quarter(run):.0%}", first_finish(run), run["median_lap_s"][-1]] for run in found.values()]
        columns = zip(*shown, strict=True)
        table.add_row(arm, *(" ".join("-" if cell is None else str(cell) for cell in column) for column in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
