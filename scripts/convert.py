"""``tm-torchrl convert`` from a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tm_torchrl.commands.main import run

if __name__ == "__main__":
    run("convert")
