"""What holds for every test: one thread, no window, processes that start quickly, the same examples in every run."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch
from hypothesis import settings

from tm_torchrl.collectors.processes import IMPORTED

if sys.platform == "linux":  # as the commands do: each process that is spawned would import torch anew
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(list(IMPORTED))
torch.set_num_threads(1)
settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("house")

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs a script in this process: ``script("scripts/drive.py", "oval")`` is what ``subprocess.run`` returns."""
    root = Path(__file__).resolve().parents[1]

    def run(path: str, *words: object) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setattr(sys, "argv", [path, *map(str, words)])
        status, message = 0, ""
        try:
            runpy.run_path(str(root / path), run_name="__main__")
        except SystemExit as ended:
            is_text = isinstance(ended.code, str)
            status, message = (1, f"{ended.code}\n") if is_text else (int(ended.code or 0), "")
        said = capsys.readouterr()
        return subprocess.CompletedProcess([path], status, said.out, said.err + message)

    return run
