"""``tm-torchrl train`` from a checkout.

python scripts/train_iqn.py                                  # the default track, on two cores, without the game
python scripts/train_iqn.py env.track=oval seed=1
python scripts/train_iqn.py experiment=cartpole_iqn
python scripts/train_iqn.py resume=runs/hillside/2026-01-31_12-00-00
python scripts/train_iqn.py --help                           # all settings and their choices
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tm_torchrl.commands.main import run

if __name__ == "__main__":
    run("train")
