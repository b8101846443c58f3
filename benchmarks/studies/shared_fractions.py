"""Does IQN learn as well when a batch shares one set of fractions? CartPole-v1 to 475, both ways over the same seeds.

Not quite: it needs more steps (see the results).

    python benchmarks/studies/shared_fractions.py --seeds 10 --write

Seeds that are in the results file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.peers.cartpole import run_ours
from benchmarks.results_file import RESULTS, describe_run, write_results

ARMS = {"shared by the batch": "true", "for each sample": "false"}


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "shared_fractions.json"
    old: dict[str, Any] = json.loads(path.read_text())["runs"] if path.exists() else {}
    runs: dict[str, dict[str, Any]] = {arm: old.get(arm, {}) for arm in ARMS}
    for seed in range(arguments.seeds):
        for arm, value in ARMS.items():
            if str(seed) in runs[arm]:
                continue
            found = run_ours(seed, [f"objective.network.source.shared={value}"])
            runs[arm][str(seed)] = {name: round(number, 2) for name, number in found.items()}
            if arguments.write:
                write_results(path.stem, {**describe_run(device="cpu"), "runs": runs})
    table = Table("fractions", "solved", "median steps", "steps of each", "median CPU s", title="CartPole-v1 to 475")
    for arm, found_by_seed in runs.items():
        rows = list(found_by_seed.values())
        steps = sorted(int(row["steps"]) for row in rows)
        table.add_row(
            arm,
            f"{sum(row['score'] >= 475 for row in rows)} of {len(rows)}",
            f"{statistics.median(steps):,.0f}",
            " ".join(f"{step:,}" for step in steps),
            f"{statistics.median(row['cpu_s'] for row in rows):.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
