"""Compare two checkouts: frames and updates in a minute of the default run, one after the other, on a quiet machine.

    git worktree add ../before COMMIT
    python benchmarks/studies/wall_clock.py ../before --write
    python benchmarks/studies/wall_clock.py . --now learner.compile=auto --write    # or this one with other settings

Each run is measured between its first and its last row of metrics, so that its start does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import ROOT, describe_run, write_results

KEYS = ("frames", "train/updates")


def per_minute(checkout: Path, minutes: float, settings: list[str]) -> dict[str, float]:
    """Frames and updates in a minute of a run with these settings beside the defaults, evaluations included."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = str(checkout)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = [f"max_minutes={minutes}", "device=cpu", f"hydra.run.dir='{run}'", *settings]
        command = [sys.executable, str(checkout / "scripts" / "train_iqn.py"), *words]
        subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    first, last = rows[0], rows[-1]
    return {key: 60 * (last[key] - first[key]) / (last["seconds"] - first["seconds"]) for key in KEYS}


def main() -> None:
    """Alternate between the checkouts, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--now", nargs="+", default=[], metavar="SETTING", help="of this checkout, beside the defaults")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    for _ in range(arguments.rounds):
        for name, checkout, settings in (("before", arguments.before.resolve(), []), ("now", ROOT, arguments.now)):
            found[name].append(per_minute(checkout, arguments.minutes, settings))
            print(name, {key: round(value) for key, value in found[name][-1].items()}, flush=True)
    pairs = list(zip(found["before"], found["now"], strict=True))
    ratios = {key: statistics.median(now[key] / before[key] for before, now in pairs) for key in KEYS}
    print({key: round(value, 2) for key, value in ratios.items()})
    if arguments.write:
        write_results("wall_clock", {**describe_run(device="cpu"), "per_minute": found, "ratio": ratios})


if __name__ == "__main__":
    main()
