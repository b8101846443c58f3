"""Ends games whose starter is gone without having ended them: ``python -m tm_torchrl.game.instances.guard``.

Its standard input tells what to end: the secret word that the games carry, and the process group of their command. The
other end of it is held by the process that has started them, so it ends with that process, however it ends.
"""

from __future__ import annotations

import sys

from tm_torchrl.game.instances.processes import end_marked


def main() -> None:
    """Wait, and end what is left."""
    mark, group = sys.stdin.buffer.readline().decode().split()
    if not sys.stdin.buffer.read(1):  # the end; a word would be a dismissal
        end_marked(mark, group=int(group))


if __name__ == "__main__":
    main()
