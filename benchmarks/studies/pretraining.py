"""What a linear map can read from image encoders after visual pretraining: AE, VAE, SimCLR, and random weights.

    tm-torchrl record hillside --laps 50 --pixels --starts anywhere --disturbed 0.1 --out demonstrations/anywhere
    python benchmarks/studies/pretraining.py demonstrations/anywhere --write

All have the same laps, network, batch and number of frames. Arms that are in the results file already are not run
again.
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
from tm_torchrl.agents.agent import make_agent
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.settings import compose_settings
from tm_torchrl.trainers import train

FRAMES, LAPS = 120_000, 50
COMMON = [
    "algorithm=pretraining",
    "network=classic",
    f"total_frames={FRAMES}",
    f"learning_rate=[exponential, [0, 1.0e-3], [{FRAMES}, 1.0e-4]]",
    f"evaluation.num={LAPS}",
    "evaluation.every_frames=1_000_000",  # only at the end
    "env.held_out_share=0.2",
    "log.tensorboard=false",
    "precision=bfloat16",
    "device=cpu",
]
ARMS = {
    "random": None,
    "autoencoder": ["objective=autoencoder"],
    "VAE": ["objective=vae"],
    "SimCLR": ["objective=simclr"],
    "SimCLR, positives up to 5 steps later": ["objective=simclr", "objective.positive_steps=5"],
}
STACKED = "transforms=stack_frames"
NUMBERS = ("r2_mean", "r2_speed", "r2_lateral_offset", "r2_curvature", "cpu_s")


def measure(settings: list[str], *, is_trained: bool) -> dict[str, Any]:
    """The probe of one encoder, and the CPU seconds of its training."""
    torch.manual_seed(0)
    if not is_trained:
        (row,) = make_agent(compose_settings(settings)).evaluate(laps=LAPS)
        return {name: row.get(name, 0.0) for name in NUMBERS}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train(settings, folder=run, is_quiet=True)
        row = read_evaluations(run)[-1]
    return {name: row[name] for name in NUMBERS}


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of recorded laps with images")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "pretraining.json"
    runs: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
    arms = {arm: (objective, []) for arm, objective in ARMS.items()}
    arms |= {f"{arm}, four images": (ARMS[arm], [STACKED]) for arm in ("random", "autoencoder", "SimCLR")}
    for arm, (objective, transforms) in arms.items():
        if arm not in runs:
            settings = [*COMMON, f"data='{arguments.data}'", *(objective or []), *transforms]
            runs[arm] = measure(settings, is_trained=objective is not None)
            if arguments.write:
                write_results(path.stem, {**describe_run(device="cpu"), "runs": runs})
    table = Table("encoder", *(name.removeprefix("r2_").replace("_", " ") for name in NUMBERS))
    for arm, found in runs.items():
        table.add_row(arm, *(f"{found[name]:.2f}" for name in NUMBERS[:-1]), f"{found['cpu_s']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
