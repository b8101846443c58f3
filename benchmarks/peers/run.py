"""One cell of another library, in a process of its own: ``python -m benchmarks.peers.run FOLDER``.

It begins anew if it was ended before, since peers have no checkpoints here.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import torch
import yaml

from benchmarks.peers.task import PeerTask
from tm_torchrl.experiments.run_process import RUN, SETTINGS, stop_with_starter
from tm_torchrl.trainers.malloc import keep_freed_memory


def main() -> None:
    """Train as the folder's settings say; stop when the starter is gone."""
    stop_with_starter()
    folder = Path(sys.argv[1])
    settings = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
    torch.set_num_threads(int(settings["num_threads"]))
    keep_freed_memory()  # as ours
    if (folder / RUN).exists():
        shutil.rmtree(folder / RUN)
    home, _, name = str(settings["peer"]).partition(":")
    getattr(importlib.import_module(home), name)(PeerTask(settings, folder))


if __name__ == "__main__":
    main()
