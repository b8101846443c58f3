"""Where and when a benchmark ran, and the JSON file that keeps it."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "torchrl", "tensordict", "warp-lang", "numpy", "gymnasium")


def describe_run(*, device: str) -> dict[str, Any]:
    """Date, command, git hash, versions and processor."""
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS.parents[1], capture_output=True, text=True
    )
    changed = ["git", "status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results"]  # results are no code
    dirty = subprocess.run(changed, cwd=RESULTS.parents[1], capture_output=True, text=True)
    return {
        "date": dt.date.today().isoformat(),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "git": git.stdout.strip() + ("+" if dirty.stdout.strip() else ""),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": torch.cuda.get_device_name() if device.startswith("cuda") else processor_name(),
    }


def processor_name() -> str:
    """The processor as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def add_results_argument(parser: argparse.ArgumentParser) -> None:
    """``--results FOLDER``, for looks that are not to be kept."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results lie (benchmarks/results)")


def write_results(name: str, results: dict[str, Any], *, folder: Path = RESULTS) -> Path:
    """Write ``benchmarks/results/NAME.json``, or into another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path
