"""How soon presets that see images finish laps on the default track.

    python benchmarks/studies/pixel_drives.py --seeds 3 --minutes 20 --write
    python benchmarks/studies/pixel_drives.py --preset btr --frames 260_000 --seeds 3 --write

Minutes are of one core. Seeds that are in the results file already are not run again.
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
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.trainers import train

COMMON = ["collector=single", "replay.capacity=150_000", "evaluation.every_frames=12_800", "device=cpu"]
KEPT = ("frames", "seconds", "finish_rate", "median_lap_s", "best_lap_s")


def measure(preset: str, *, seed: int, end: str) -> dict[str, Any]:
    """Of each evaluation of 16 laps: frames, seconds, share of finished laps, median and best lap in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = [f"experiment={preset}", f"seed={seed}", end, "log.tensorboard=false"]
        train([*settings, *COMMON], folder=run, is_quiet=True)
        rows = read_evaluations(run)
    return {name: [row[name] for row in rows] for name in KEPT}


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="iqn_pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--frames", type=int, help="instead of minutes")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "pixel_drives.json"
    runs: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))["runs"] if path.exists() else {}
    found = runs.setdefault(arguments.preset, {})
    end = f"max_minutes={arguments.minutes}" if arguments.frames is None else f"total_frames={arguments.frames}"
    for seed in range(arguments.seeds):
        if str(seed) not in found:
            found[str(seed)] = measure(arguments.preset, seed=seed, end=end)
            if arguments.write:
                write_results(path.stem, {**describe_run(device="cpu"), "runs": runs})
    table = Table("preset", "seed", "minutes", "half finish after", "finished, last quarter", "best median lap, s")
    for preset, of_seeds in runs.items():
        for seed, run in of_seeds.items():
            rates, last = run["finish_rate"], run["frames"][-1]
            late = [rate for frames, rate in zip(run["frames"], rates, strict=True) if frames > 0.75 * last]
            first = next((s / 60 for s, rate in zip(run["seconds"], rates, strict=True) if rate >= 0.5), None)
            laps = [lap for lap in run["median_lap_s"] if lap is not None]
            shown = "-" if first is None else f"{first:.1f} min"
            best = f"{min(laps):.1f}" if laps else "-"
            table.add_row(preset, seed, f"{run['seconds'][-1] / 60:.0f}", shown, f"{sum(late) / len(late):.0%}", best)
    Console().print(table)


if __name__ == "__main__":
    main()
