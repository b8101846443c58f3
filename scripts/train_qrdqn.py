"""Train a QR-DQN agent with the same loop and settings as ``train_iqn.py``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tm_torchrl.trainers.command import run_command

if __name__ == "__main__":
    run_command("train_qrdqn")
