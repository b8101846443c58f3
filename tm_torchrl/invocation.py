"""How the user calls the commands: as ``tm-torchrl NAME`` or as ``python scripts/FILE.py``."""

from __future__ import annotations

import sys
from pathlib import Path

SCRIPTS = {  # scripts whose name is not that of the command
    "train": "train_iqn",
    "tracks": "show_tracks",
    "replay": "replay_inputs",
    "optimize": "optimize_lap",
    "medals": "make_medals",
}


def command(name: str) -> str:
    """A command as the user can type it, in the way that this program was started.

    Args:
        name: Name of the command, such as ``evaluate``.

    Examples:
        >>> command("evaluate") in ("python scripts/evaluate.py", "tm-torchrl evaluate")
        True
    """
    if Path(sys.argv[0]).name.partition(".")[0] == "tm-torchrl":
        return f"tm-torchrl {name}"
    return f"python scripts/{SCRIPTS.get(name, name.replace('-', '_'))}.py"
