"""What works with torch, TorchRL, tensordict and numpy alone, and what a missing package's error says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tm_torchrl.lazy import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_EXTRAS = f"""
import sys
from importlib.machinery import PathFinder

class CoreFinder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {sorted(EXTRAS)} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = CoreFinder
"""
CORE = """
import importlib, runpy
for room in ("objectives", "modules", "data"):
    package = importlib.import_module(f"tm_torchrl.{room}")
    for name in package.__all__:
        getattr(package, name)
runpy.run_path("examples/losses_alone.py")
sys.argv[1:] = ["--frames", "320"]
runpy.run_path("examples/buffer_in_a_foreign_loop.py")
import tm_torchrl
for name in ("TrackManiaEnv", "IQN"):
    try:
        getattr(tm_torchrl, name)
    except ModuleNotFoundError as error:
        print(name, error)
from tm_torchrl.commands.main import main
sys.argv[1:] = ["doctor"]
main()
"""
COMMAND = """
from tm_torchrl.commands.main import main
sys.argv[1:] = ["train", "max_minutes=1"]
main()
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_EXTRAS + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_losses_networks_and_buffers_need_the_core_only() -> None:
    done = run(CORE)
    assert done.returncode == 1, done.stderr  # doctor misses warp
    assert "update  99: loss" in done.stdout
    assert 'TrackManiaEnv warp is not installed: pip install "tm_torchrl[sim]"' in done.stdout
    assert re.search(r'IQN \w+ is not installed: pip install "tm_torchrl\[(sim|train)\]"', done.stdout)
    assert "fail  warp" in done.stdout


def test_the_command_names_the_extra_in_one_line() -> None:
    done = run(COMMAND)
    assert (done.returncode, done.stderr) == (1, 'error: hydra is not installed: pip install "tm_torchrl[train]"\n')
