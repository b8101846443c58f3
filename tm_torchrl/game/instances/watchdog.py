"""Ends games whose starter died without ending them: ``python -m tm_torchrl.game.instances.watchdog``.

The process that started the games holds the other end of the watchdog's standard input, and first writes what to end:
the token that the games carry, and the process group of their command. If the input ends, the starter has died; if a
byte comes, it has ended the games itself.
"""

from __future__ import annotations

import sys

from tm_torchrl.game.instances.processes import end_processes


def main() -> None:
    """Wait, and end the games that are left."""
    token, group = sys.stdin.buffer.readline().decode().split()
    if not sys.stdin.buffer.read(1):
        end_processes(token, group=int(group))


if __name__ == "__main__":
    main()
