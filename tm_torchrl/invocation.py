"""Commands as the user can type them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


def command(name: str = "") -> str:
    """A command that can be copied: ``tm-torchrl NAME`` where that is on the path, else with its folder.

    Args:
        name: Name of the command, such as ``evaluate``.

    Examples:
        >>> command("evaluate").endswith("evaluate")
        True
    """
    python = Path(sys.executable)
    program = python.with_name("tm-torchrl.exe" if os.name == "nt" else "tm-torchrl")
    on_path = shutil.which("tm-torchrl")
    if on_path is not None and Path(on_path).resolve() == program.resolve():
        words = ["tm-torchrl"]
    elif program.is_file():
        words = [_shown(program)]
    else:
        words = [_shown(python), "-m", "tm_torchrl"]
    return quoted(*words, *name.split())


def quoted(*words: str | Path) -> str:
    """Words of a command line, quoted for the shell of this system where that is needed."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


def _shown(program: Path) -> str:
    """Relative to the working folder if it is below it."""
    try:
        return str(program.relative_to(Path.cwd()))
    except (OSError, ValueError):  # the working folder was deleted, or is another
        return str(program)
