"""Shared memory through which TMInterface 1.x and its client exchange one message at a time.

On Windows it is a named mapping, which the game creates. Elsewhere it is a file in memory, on which the server holds a
lock as long as it runs, so that a client can tell whether there is a server. The channel cannot tell clients apart: two
of them would read each other's answers. Therefore a client holds a lock, too (``ClientLock``).

A message is a header (``0xFF00 | kind``), an error code, and content. The header's mark is written last and makes the
message valid. Kind and mark are read and written as one number; in two halves, a reader could see the mark of the last
message with the kind of the next.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import re
import secrets
import select
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tm_torchrl.game.errors import GameError, GameGone, GameTimeout, NobodyThereError
from tm_torchrl.game.tmi1.client_lock import ClientLock

if sys.platform != "win32":
    import fcntl

_LOG = logging.getLogger(__name__)
SIZE = 65535  # the game's default; its option /serversize changes it
MARK = 0xFF00
HEADER = struct.Struct("@I")  # native order: copied as one number
TWO = struct.Struct("@Ii")
CONTENT = 8  # offset of the content
BUSY_S = 0.002  # wait this long without sleeping: answers come within microseconds
NAP_S = 0.0002
LOOK_EVERY_S = 0.05  # how often a waiting client checks that the server still runs
RETRY_S = 0.2  # between attempts to open a channel
WARN_AFTER_S = 2.0  # waiting time after which a warning is logged


def pause() -> None:
    """Let other processes and other threads run for a moment."""
    if sys.platform == "win32":
        time.sleep(0)
    else:
        select.select((), (), (), 0)  # lets other threads have the interpreter; time.sleep(0) would take 90 us
        os.sched_yield()


def checked_name(name: str) -> str:
    """The name, if it is valid; it becomes part of a file's name."""
    if not re.fullmatch(r"\w{1,64}", name, re.ASCII):
        raise ValueError(f"channel={name!r}: must consist of letters, digits and _, such as TMInterface0")
    return name


class Channel:
    """One end of a channel.

    Args:
        name: ``TMInterface0`` to ``TMInterface15``, or any other name for emulators.
        is_server: Whether this end creates the channel, and removes it when it is closed.
        size: Size of the memory in bytes.

    Examples:
        >>> server = Channel(f"doctest_{os.getpid()}", is_server=True)
        >>> client = Channel(server.name)
        >>> client.write(12, b"hello")
        >>> server.kind, server.read(5)
        (12, b'hello')
        >>> client.close(), server.close()
        (None, None)
    """

    def __init__(self, name: str, *, is_server: bool = False, size: int = SIZE) -> None:
        self.name = checked_name(name)
        self.size = size
        self.is_server = is_server
        self._file: int | None = None
        self._lock = None if is_server else ClientLock(name)
        try:
            self.memory = self._tagged() if sys.platform == "win32" else self._in_file()
        except BaseException:
            self._release_lock()
            raise
        if is_server:
            self.memory[:] = bytes(size)

    @property
    def path(self) -> Path:
        """The file in memory; Windows has none."""
        return _folder() / self.name

    @property
    def header(self) -> int:
        """Kind and mark of the present message, read as one number."""
        return int(HEADER.unpack_from(self.memory, 0)[0])

    @property
    def kind(self) -> int:
        """Kind of the present message; 0 for none, or for one that is still being written."""
        header = self.header
        return header & 0xFF if header & MARK == MARK else 0

    @property
    def error(self) -> int:
        """Error code of the present message."""
        return int(TWO.unpack_from(self.memory, 0)[1])

    def read(self, number: int, *, at: int = 0) -> bytes:
        """``number`` bytes of the content, from offset ``at``."""
        return self.memory[CONTENT + at : CONTENT + at + number]

    def write(self, kind: int, content: bytes | bytearray = b"", *, error: int = 0) -> None:
        """Write a whole message; its mark comes last."""
        if CONTENT + len(content) > self.size:
            raise ValueError(f"content has {len(content)} bytes: must have at most {self.size - CONTENT}")
        HEADER.pack_into(self.memory, 0, 0)
        TWO.pack_into(self.memory, 0, 0, error)
        self.memory[CONTENT : CONTENT + len(content)] = bytes(content)
        HEADER.pack_into(self.memory, 0, kind | MARK)

    def clear(self) -> None:
        """Remove the message."""
        TWO.pack_into(self.memory, 0, 0, 0)

    def wait(self, is_expected: Callable[[int], bool], *, until: float, what: str) -> int:
        """Wait for a header that ``is_expected``, and return it.

        Args:
            is_expected: Whether a header is the awaited one.
            until: When to give up, by ``time.monotonic``.
            what: What is awaited, for the error message.
        """
        begin = time.monotonic()
        look_at = begin + LOOK_EVERY_S
        while not is_expected(header := self.header):
            now = time.monotonic()
            if now >= until:
                raise GameTimeout(f"{self.name}: {what} did not come in time")
            if now >= look_at:
                if not self.is_server and not self.has_server():
                    raise GameGone(f"{self.name}: the game has ended, and left its channel behind")
                look_at = now + LOOK_EVERY_S
            if now - begin < BUSY_S:
                pause()
            else:
                time.sleep(NAP_S)
        return header

    def has_server(self) -> bool:
        """Whether a server runs at the other end; always true where the system cannot tell."""
        if sys.platform != "win32" and self._file is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.flock(self._file, fcntl.LOCK_UN)
                return False
        return True

    def close(self) -> None:
        """Release the memory; a server removes it."""
        with contextlib.suppress(BufferError, ValueError):
            self.memory.close()
        if self._file is not None:
            if self.is_server:
                self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None
        self._release_lock()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _tagged(self) -> mmap.mmap:
        return mmap.mmap(-1, self.size, tagname=self.name)  # type: ignore[call-arg, unused-ignore]

    def _in_file(self) -> mmap.mmap:
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | (os.O_CREAT if self.is_server else 0)
        try:
            file = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            raise NobodyThereError(
                f"there is no channel {self.name}: no game with TMInterface 1.x is running; a game with 2.x has a port "
                "instead (game=tmi2)"
            ) from None
        except PermissionError:
            raise GameError(f"channel {self.name} belongs to another user; choose another name") from None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise GameError(f"channel {self.name}: {self.path} is a link; remove it, or choose another name") from None
        try:
            if self.is_server:
                if os.fstat(file).st_uid != os.geteuid():
                    raise GameError(f"channel {self.name} belongs to another user; choose another name")
                self._lock_file(file)
                os.ftruncate(file, self.size)
            found = mmap.mmap(file, self.size)
        except BaseException as error:
            os.close(file)
            if isinstance(error, ValueError):  # too short: its server is just creating it
                raise GameGone(f"channel {self.name} is smaller than {self.size} bytes") from None
            raise
        self._file = file
        return found

    def _lock_file(self, file: int) -> None:
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GameError(f"channel {self.name} is in use by another game; choose another name") from None


def open_channel(name: str, *, until: float) -> Channel:
    """The client's end of a channel; waits for a running game.

    Args:
        name: The channel's name.
        until: When to give up, by ``time.monotonic``.
    """
    warn_at = time.monotonic() + WARN_AFTER_S
    while True:
        try:
            found = Channel(name)
            if found.has_server():
                return found
            found.close()
            raise NobodyThereError(f"channel {name} was left behind by a game that has ended; restart the game")
        except GameGone as error:
            now = time.monotonic()
            if now + RETRY_S >= until:
                raise
            if now >= warn_at:
                _LOG.warning("%s. Waiting for %.0f s", error, until - now)
                warn_at = until
            time.sleep(RETRY_S)


def remove_left_behind(name: str) -> bool:
    """Remove the file of a channel whose server was killed; returns whether there was one.

    The file of a running server stays.
    """
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            path = _folder() / checked_name(name)
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                return True
            finally:
                os.close(file)
    return False


def free_name() -> str:
    """A name that no other emulator uses; files that killed emulators have left behind are removed."""
    if sys.platform != "win32":
        for path in _folder().glob("TMInterface*_*"):
            found = re.fullmatch(r"TMInterface([0-9]+)_[0-9a-f]+", path.name)
            if found and not _is_alive(int(found[1])):
                remove_left_behind(path.name)
    return f"TMInterface{os.getpid()}_{secrets.token_hex(4)}"


def _is_alive(pid: int) -> bool:
    """Whether this process exists, ours or another user's."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _folder() -> Path:
    """The folder of the files in memory."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())
