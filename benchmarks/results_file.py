"""The JSON files of results, with place, time, versions and command of each measurement."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "torchrl", "tensordict", "warp-lang", "numpy", "gymnasium")
# Where programs lie that older results name by another path.
MOVED = {
    "benchmarks/pixel_proof.py": "benchmarks/studies/pixel_proof.py",
    "benchmarks/parity.py": "benchmarks/speeds/parity.py",
    "benchmarks/bench_": "benchmarks/speeds/bench_",
    "bench_game1.py": "bench_game.py --protocol 1",
}


def describe_run(*, device: str) -> dict[str, Any]:
    """Date, command, git hash, versions and processor."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    changed = ["git", "status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results"]  # results are no code
    dirty = subprocess.run(changed, cwd=ROOT, capture_output=True, text=True)
    program = Path(sys.argv[0]).resolve()
    shown = program.relative_to(ROOT).as_posix() if program.is_relative_to(ROOT) else program.name
    return {
        "date": dt.date.today().isoformat(),
        "command": shlex.join(["python", shown, *sys.argv[1:]]),
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


def command_of(results: Mapping[str, Any]) -> str:
    """The command that measures results again; programs are named where they lie today.

    >>> command_of({"command": "python benchmarks/bench_env.py --rounds 4 --write"})
    'python benchmarks/speeds/bench_env.py --rounds 4 --write'
    """
    command = str(results["command"])
    for before, now in MOVED.items():
        command = command.replace(before, now)
    return re.sub(r" --results \S+", "", command)


def measured_on(results: Mapping[str, Any], *packages: str) -> str:
    """Date, machine, versions of some packages and commit of results, as one line of text."""
    versions = (f"{'Warp' if name == 'warp-lang' else name} {results['versions'][name]}" for name in packages)
    return f"{results['date']}, {results['machine']}, {', '.join(versions)}, commit {results['git']}"


def add_results_argument(parser: argparse.ArgumentParser) -> None:
    """``--results FOLDER``, for measurements that are not kept."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (benchmarks/results)")


def write_results(name: str, results: dict[str, Any], *, folder: Path = RESULTS) -> Path:
    """Write ``benchmarks/results/NAME.json``, or into another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path


def read_results(name: str, *, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The results that ``write_results`` wrote; ``None`` if there is no such file."""
    path = folder / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
