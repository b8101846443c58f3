"""What an installation takes: megabytes of each extra, and CPU seconds until what it brings is imported.

    pip install -e ".[all]" -c constraints.txt
    python benchmarks/speeds/bench_install.py --write

Sizes are those of the files that pip has installed for the package's requirements and for theirs, compiled Python files
included; nothing is installed anew. Times are CPU seconds of a new process, the least of some, with files in the cache
of the system. On Linux and macOS.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import ROOT, add_results_argument, describe_run, write_results

EXTRAS = {"core": "", "sim": "sim", "train": "train", "report": "report", "all": "all"}
IMPORTS = {
    "Python itself": "pass",
    "import torch": "import torch",
    "import torchrl.objectives": "import torchrl.objectives",
    "import tm_torchrl": "import tm_torchrl",
    "from tm_torchrl.modules import MLPIQNetwork": "from tm_torchrl.modules import MLPIQNetwork",
    "from tm_torchrl.objectives import IQNLoss": "from tm_torchrl.objectives import IQNLoss",
    "from tm_torchrl import TrackManiaEnv": "from tm_torchrl import TrackManiaEnv",
    "from tm_torchrl import IQN": "from tm_torchrl import IQN",
    "tm-torchrl --help": "import sys; sys.argv = ['tm-torchrl', '--help']\n"
    "from tm_torchrl.commands.main import main; main()",
}


def requirements(package: str, extra: str = "") -> dict[str, set[str]]:
    """Distributions that a package needs with an extra, itself left out; each with the extras that are asked of it.

    Args:
        package: Name of an installed distribution.
        extra: One of its extras; empty for none.
    """
    parse = import_module("packaging.requirements").Requirement  # matplotlib and tensordict bring it
    found: dict[str, set[str]] = {}
    waiting = [(package, {"", extra})]
    while waiting:
        name, extras = waiting.pop()
        for line in importlib.metadata.requires(name) or []:
            requirement = parse(line)
            if requirement.marker and not any(requirement.marker.evaluate({"extra": each}) for each in extras):
                continue
            needed, wanted = plain(requirement.name), {"", *requirement.extras}
            if not wanted <= found.get(needed, set()):
                found.setdefault(needed, set()).update(wanted)
                waiting.append((needed, found[needed]))
    return {name: extras for name, extras in found.items() if name != plain(package)}


def plain(name: str) -> str:
    """A distribution's name as registries compare it.

    >>> plain("Farama_Notifications")
    'farama-notifications'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def size_mb(distribution: str) -> float:
    """Megabytes of an installed distribution's files."""
    found = importlib.metadata.distribution(distribution)
    paths = (Path(str(found.locate_file(file))) for file in found.files or [])
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def own_size_mb() -> float:
    """Megabytes of the package itself, without compiled files."""
    folders = (ROOT / "tm_torchrl", ROOT / "configs")
    files = (path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def cpu_s(code: str) -> float:
    """CPU seconds of a process that runs some code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes for each import")
    parser.add_argument("--write", action="store_true", help="keep the results")
    add_results_argument(parser)
    args = parser.parse_args()
    needed = {name: sorted(requirements("tm_torchrl", extra)) for name, extra in EXTRAS.items()}
    sizes = {name: size_mb(name) for name in sorted({name for names in needed.values() for name in names})}
    found: dict[str, Any] = {
        "package_mb": round(own_size_mb(), 1),
        "torch_mb": round(sizes["torch"], 1),
        "extras": {
            extra: {"packages": len(names), "mb": round(sum(sizes[name] for name in names), 1)}
            for extra, names in needed.items()
        },
        "cpu_s": {name: round(min(cpu_s(code) for _ in range(args.rounds)), 2) for name, code in IMPORTS.items()},
    }
    print(json.dumps(found, indent=2))
    if args.write:
        print("wrote", write_results("install_cpu", {**describe_run(device="cpu"), **found}, folder=args.results))


if __name__ == "__main__":
    main()
