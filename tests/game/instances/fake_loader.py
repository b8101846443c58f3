"""A substitute for the game's loader: starts a detached process that listens at a port, and exits."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time


def game(port: int, *, is_stubborn: bool) -> None:
    """Listen until the process is ended."""
    if is_stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.create_server(("127.0.0.1", port)):
        time.sleep(120)


def main() -> None:
    port, kind = int(sys.argv[1].partition("=")[2].split()[-1]), sys.argv[2]
    if kind in ("game", "stubborn_game"):
        game(port, is_stubborn=kind == "stubborn_game")
    elif kind == "crash":
        sys.stderr.write(f"no account for profile {sys.argv[3]}\n")
        sys.exit(7)
    elif kind == "silent":
        time.sleep(120)
    else:
        child = "stubborn_game" if kind == "stubborn" else "game"
        subprocess.Popen([sys.executable, __file__, sys.argv[1], child], start_new_session=os.name == "posix")


if __name__ == "__main__":
    main()
