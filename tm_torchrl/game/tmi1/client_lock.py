"""The lock that a client holds on a channel, so that a second client is refused; it ends with the client's process."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from pathlib import Path

from tm_torchrl.game.errors import GameError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class ClientLock:
    """Locks a channel until it is released; refused while another client holds the lock."""

    def __init__(self, name: str) -> None:
        self._path = Path(tempfile.gettempdir()) / f"tm_torchrl_client_of_{name}.lock"
        while True:
            try:
                flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
                self._file = os.open(self._path, flags, 0o600)
            except PermissionError:
                raise GameError(
                    f"{name} is or was used by another user's client, who owns {self._path}; choose another channel"
                ) from None
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise GameError(f"{self._path} is a link: remove it, or choose another channel") from None
            try:
                if sys.platform == "win32":
                    msvcrt.locking(self._file, msvcrt.LK_NBLCK, 1)
                else:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not self._is_at_path():  # its last owner removed the file after it was opened here
                        os.close(self._file)
                        continue
            except OSError:
                os.close(self._file)
                raise GameError(
                    f"another client drives the game at {name}: a game takes one client; end the other training, or "
                    "use another game instance"
                ) from None
            return

    def _is_at_path(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Release the lock, and remove its file."""
        with contextlib.suppress(OSError):
            if sys.platform != "win32":
                self._path.unlink(missing_ok=True)  # while it is locked: afterwards it may be another client's
            os.close(self._file)
            if sys.platform == "win32":
                self._path.unlink(missing_ok=True)  # fails if the next client has opened it
