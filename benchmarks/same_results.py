"""Compare two checkouts: do fixed seeds give the same metrics and the same weights, bit for bit?

git worktree add ../before COMMIT
python benchmarks/same_results.py ../before                # all cells, in this checkout and in that one
python benchmarks/same_results.py ../before --cells drive  # one of them
python benchmarks/same_results.py ../before --keep /tmp/before-runs  # reuse the other checkout's runs next time

A refactoring that changes no computation must pass; exit status 1 says that something differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
FRAMES = 20_000
SMALL = ["objective.network.hidden_sizes=[32,32]", "objective.network.head_size=32"]
CELLS: dict[str, list[str]] = {
    "drive": [],
    "cartpole": ["experiment=cartpole_iqn", "evaluation.target_score=null"],
    "mini_race": ["env.track=oval", "replay=prioritized", "replay.mini_race={num_actions: 140, seed: 3}"],
    "pixels": [
        *("env.track=oval", "network=classic", "env.pixels=true", "env.num_envs=16", *SMALL),
        *("replay.storage=frames", "replay.learning_starts=2000", "replay.batch_size=16"),
        "replay.uses_per_transition=0.5",
    ],
    "blocks": ["env.track=oval", "env.action_block=5", "env.num_previous_actions=25"],
}
ALWAYS = ["collector=single", "precision=float32", "device=cpu", "log.tensorboard=false", f"total_frames={FRAMES}"]
CLOCKS = ("seconds", "speed/", "memory/")


def run_cell(checkout: Path, cell: str, folder: Path) -> None:
    """Train in a new process that imports the package of the given checkout."""
    words = [*CELLS[cell], *ALWAYS, "evaluation.every_frames=10000", "evaluation.num=4", f"hydra.run.dir='{folder}'"]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(checkout / "scripts" / "train_iqn.py"), *words]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{cell} failed in {checkout}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Rows of ``metrics.jsonl`` without times and memory."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(CLOCKS)} for row in rows]


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """Rows of ``evaluations.jsonl`` without the clocks."""
    rows = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "cpu_s")} for row in rows]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The actor's weights in the newest checkpoint."""
    newest = max((folder / "checkpoints").glob("frames_*"))
    return dict(torch.load(newest / "state.pt", weights_only=True)["actor"])


def differences(ours: Path, theirs: Path) -> list[str]:
    """The differences between two run folders, a line each."""
    found = []
    for name, read in (("metrics.jsonl", metrics), ("evaluations.jsonl", evaluations)):
        a, b = read(ours), read(theirs)
        if len(a) != len(b):
            found.append(f"{name}: {len(a)} rows here, {len(b)} there")
        for i, (row, other) in enumerate(zip(a, b, strict=False)):
            keys = [key for key in sorted({*row, *other}) if row.get(key, "absent") != other.get(key, "absent")]
            found += [f"{name}, row {i}, {key}: {row.get(key)} here, {other.get(key)} there" for key in keys]
    a, b = weights(ours), weights(theirs)
    if list(a) != list(b):
        found.append(f"weights: names differ: {sorted({*a} ^ {*b})}")
    found += [f"weights: {key} differs" for key in a if key in b and not torch.equal(a[key], b[key])]
    return found


def main() -> int:
    """Run and compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    parser.add_argument("--cells", nargs="+", choices=sorted(CELLS), default=list(CELLS))
    parser.add_argument("--keep", type=Path, help="keep the other checkout's runs here, and reuse those that are there")
    arguments = parser.parse_args()
    is_same = True
    with tempfile.TemporaryDirectory() as scratch:
        for cell in arguments.cells:
            theirs = (arguments.keep or Path(scratch) / "theirs").resolve() / cell
            if not (theirs / "report.html").is_file():
                run_cell(arguments.other.resolve(), cell, theirs)
            ours = Path(scratch) / "ours" / cell
            run_cell(ROOT, cell, ours)
            found = differences(ours, theirs)
            is_same = is_same and not found
            print(f"{cell}: {'the same, bit for bit' if not found else f'{len(found)} differences'}", flush=True)
            for line in found[:10]:
                print(f"  {line}")
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
