"""A piece of memory that two programs share, through which TMInterface 1.x and its client say one message at a time.

On Windows it is a named mapping, as the game makes it; elsewhere a file that lies in memory, on which the server holds
a lock as long as it lives, so that a client sees whether anybody is there. The channel cannot tell clients apart: two
of them would read each other's answers. So a client holds a lock too, which ends with its process.

A message is its kind with a mark (``0xFF00 | kind``), an error, and content. It counts when the mark is there, which is
written last. The kind with its mark is read and written as one number: in halves one could see the mark of the last
message with the kind of the next.
"""

from __future__ import annotations

import contextlib
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
from tm_torchrl.game.tmi1.client_lock import Seat

if sys.platform != "win32":
    import fcntl

_LOG = logging.getLogger(__name__)
SIZE = 65535  # of the game's; its /serversize would change it
MARK = 0xFF00
HEADER = struct.Struct("@I")  # native order: copied as one number
TWO = struct.Struct("@Ii")
CONTENT = 8  # where it begins
BUSY_S = 0.002  # of waiting without sleeping: answers come within microseconds
NAP_S = 0.0002
LOOK_EVERY_S = 0.05  # for a server that has gone
RETRY_S = 0.2  # between looks for a channel
TELL_AFTER_S = 2.0  # of silence, that somebody is waited for


def pause() -> None:
    """Let other processes and other threads run for a moment."""
    if sys.platform == "win32":
        time.sleep(0)
    else:
        select.select((), (), (), 0)  # lets other threads have the interpreter; time.sleep(0) would take 90 us
        os.sched_yield()


def checked_name(name: str) -> str:
    """A channel's name, if it is one.

    Args:
        name: letters, digits and _, of which the system makes a file's name.
    """
    if not re.fullmatch(r"\w{1,64}", name, re.ASCII):
        raise ValueError(f"channel={name!r}: letters, digits and _ make a channel's name, such as TMInterface0")
    return name


class Channel:
    """One end of it.

    Args:
        name: ``TMInterface0`` to ``TMInterface15``, or any other for emulators.
        is_server: whether this end makes the channel, and removes it in the end.
        size: bytes.

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
        self._seat = None if is_server else Seat(name)
        try:
            self.memory = self._tagged() if sys.platform == "win32" else self._in_file()
        except BaseException:
            self._leave_seat()
            raise
        if is_server:
            self.memory[:] = bytes(size)

    @property
    def path(self) -> Path:
        """Of the file, where there is one."""
        return _folder() / self.name

    @property
    def header(self) -> int:
        """Kind and mark, read at once."""
        return int(HEADER.unpack_from(self.memory, 0)[0])

    @property
    def kind(self) -> int:
        """Of the message that is there; 0 for none, or for one that is still being written."""
        header = self.header
        return header & 0xFF if header & MARK == MARK else 0

    @property
    def error(self) -> int:
        """Of the message."""
        return int(TWO.unpack_from(self.memory, 0)[1])

    def read(self, number: int, *, at: int = 0) -> bytes:
        """Bytes of the content.

        Args:
            number: of bytes.
            at: where, in the content.
        """
        return self.memory[CONTENT + at : CONTENT + at + number]

    def write(self, kind: int, content: bytes | bytearray = b"", *, error: int = 0) -> None:
        """A whole message; its mark comes last."""
        if CONTENT + len(content) > self.size:
            raise ValueError(f"content of {len(content)} bytes: at most {self.size - CONTENT} go through the channel")
        HEADER.pack_into(self.memory, 0, 0)
        TWO.pack_into(self.memory, 0, 0, error)
        self.memory[CONTENT : CONTENT + len(content)] = bytes(content)
        HEADER.pack_into(self.memory, 0, kind | MARK)

    def clear(self) -> None:
        """Take the message away."""
        TWO.pack_into(self.memory, 0, 0, 0)

    def wait(self, is_there: Callable[[int], bool], *, until: float, what: str) -> int:
        """The header as soon as it is one that is wanted.

        Args:
            is_there: whether a header is.
            until: when to give up, by ``time.monotonic``.
            what: is waited for, for the message.
        """
        begin = time.monotonic()
        look_at = begin + LOOK_EVERY_S
        while not is_there(header := self.header):
            now = time.monotonic()
            if now >= until:
                raise GameTimeout(f"{self.name}: {what} did not come in time")
            if now >= look_at:
                if not self.is_server and not self.has_server():
                    raise GameGone(f"{self.name}: the game has ended; only its channel was left behind")
                look_at = now + LOOK_EVERY_S
            if now - begin < BUSY_S:
                pause()
            else:
                time.sleep(NAP_S)
        return header

    def has_server(self) -> bool:
        """Whether somebody lives at the other end; always true where the system does not tell."""
        if sys.platform != "win32" and self._file is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.flock(self._file, fcntl.LOCK_UN)
                return False
        return True

    def close(self) -> None:
        """Give the memory back; a server removes it."""
        with contextlib.suppress(BufferError, ValueError):
            self.memory.close()
        if self._file is not None:
            if self.is_server:
                self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None
        self._leave_seat()

    def _leave_seat(self) -> None:
        if self._seat is not None:
            self._seat.leave()
            self._seat = None

    def _tagged(self) -> mmap.mmap:
        return mmap.mmap(-1, self.size, tagname=self.name)  # type: ignore[call-arg, unused-ignore]

    def _in_file(self) -> mmap.mmap:
        flags = os.O_RDWR | (os.O_CREAT if self.is_server else 0)
        try:
            file = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            raise NobodyThereError(
                f"there is no channel {self.name}: no game with TMInterface 1.x runs, or this one speaks 2.x, "
                "which has ports (game=tmi2)"
            ) from None
        except PermissionError:
            raise GameError(f"channel {self.name} belongs to another user; choose another name") from None
        try:
            if self.is_server:
                self._lock(file)
                os.ftruncate(file, self.size)
            found = mmap.mmap(file, self.size)
        except BaseException as error:
            os.close(file)
            if isinstance(error, ValueError):  # shorter than it should be: its server is just being born
                raise GameGone(f"channel {self.name} is smaller than {self.size} bytes") from None
            raise
        self._file = file
        return found

    def _lock(self, file: int) -> None:
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GameError(f"channel {self.name} is in use by another game; choose another name") from None


def open_channel(name: str, *, until: float) -> Channel:
    """The client's end of a channel behind which a game lives; waited for, if there is none yet.

    Args:
        name: of the channel.
        until: when to give up, by ``time.monotonic``.
    """
    tell_at = time.monotonic() + TELL_AFTER_S
    while True:
        try:
            found = Channel(name)
            if found.has_server():
                return found
            found.close()
            raise NobodyThereError(f"channel {name} was left behind by a game that has ended; start it anew")
        except GameGone as error:
            now = time.monotonic()
            if now + RETRY_S >= until:
                raise
            if now >= tell_at:
                _LOG.warning("%s. Waiting for it for %.0f s", error, until - now)
                tell_at = until
            time.sleep(RETRY_S)


def remove_left_behind(name: str) -> bool:
    """Remove the file of a channel whose server was killed, and says whether there was one; one that lives stays.

    Args:
        name: of the channel.
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
    """A name that no other emulator has; what killed emulators with such names have left behind is removed."""
    if sys.platform != "win32":
        for path in _folder().glob("TMInterface*_*"):
            found = re.fullmatch(r"TMInterface([0-9]+)_[0-9a-f]+", path.name)
            if found and not _is_alive(int(found[1])):
                remove_left_behind(path.name)
    return f"TMInterface{os.getpid()}_{secrets.token_hex(4)}"


def _is_alive(pid: int) -> bool:
    """Whether there is such a process, ours or another user's."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _folder() -> Path:
    """Where the files lie."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())
