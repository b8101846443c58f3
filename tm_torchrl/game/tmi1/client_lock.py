"""The lock that a client holds on a channel: in a file that goes with the client; it ends with its process, too."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from tm_torchrl.game.errors import GameError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class Seat:
    """A client's place at a channel, taken until it is left; refused while somebody else has it.

    Args:
        name: of the channel.
    """

    def __init__(self, name: str) -> None:
        self._path = Path(tempfile.gettempdir()) / f"tm_torchrl_client_of_{name}.lock"
        while True:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            except PermissionError:
                raise GameError(f"another user's client drives the game at {name}, or did: see {self._path}") from None
            try:
                if sys.platform == "win32":
                    msvcrt.locking(self._file, msvcrt.LK_NBLCK, 1)
                else:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not self._is_there():  # who left has removed it since it was opened
                        os.close(self._file)
                        continue
            except OSError:
                os.close(self._file)
                raise GameError(
                    f"another client drives the game at {name}: a game has one client; end the other training, or use "
                    "another game instance"
                ) from None
            return

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def leave(self) -> None:
        """Give it up."""
        with contextlib.suppress(OSError):
            if sys.platform != "win32":
                self._path.unlink(missing_ok=True)  # before the lock is gone, so it is nobody else's
            os.close(self._file)
            if sys.platform == "win32":
                self._path.unlink(missing_ok=True)  # fails where the next one has it open
