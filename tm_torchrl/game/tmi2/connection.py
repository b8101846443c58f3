"""A TCP connection on which every wait ends: exact numbers of bytes, by a deadline, or a typed error."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from struct import Struct
from typing import Any

from tm_torchrl.game.errors import GameGone, GameTimeout, NobodyThereError

_LOG = logging.getLogger(__name__)
RETRY_S = 0.2  # between attempts to connect
TELL_AFTER_S = 2.0  # of silence, that somebody is waited for
CHUNK_BYTES = 1 << 17


class Link:
    """A connection to the game.

    Args:
        host: where the game runs.
        port: of the game instance.
        poll_s: how often a waiting call looks at its deadline, which it may miss by that much.
    """

    def __init__(self, host: str, port: int, *, poll_s: float = 0.02) -> None:
        if not 0 <= port <= 65535:  # the system would take it modulo 65536
            raise ValueError(f"port={port}: 1 to 65535 wanted, or 0 where a launcher chooses")
        self.host, self.port = host, port
        self.poll_s = poll_s
        self.deadline = 0.0
        self._allowed_s = 0.0
        self._socket: socket.socket | None = None
        self._received = bytearray()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    def allow(self, seconds: float) -> None:
        """All calls until the next ``allow`` end within so many seconds from now."""
        self._allowed_s = seconds
        self.deadline = time.monotonic() + seconds

    def open(self) -> None:
        """Connect, again and again until the deadline."""
        self.close()
        is_told = False
        while True:
            left = self.deadline - time.monotonic()
            try:
                self._socket = socket.create_connection((self.host, self.port), timeout=max(0.01, min(left, 2.0)))
                break
            except OSError as error:
                if isinstance(error, TimeoutError):  # refused is who knocks where nobody is
                    why = "If the game runs, it hangs, another training drives it, or a firewall keeps us out"
                else:
                    why = (
                        "Is the game running? Does its console say that the plugin is loaded, and does "
                        f"`set custom_port {self.port}` stand in its start command? TMInterface 1.x has another "
                        "protocol: use game=tmi1"
                    )
                words = f"nobody answers at {self.host}:{self.port} ({error}). {why}"
                if left <= RETRY_S:
                    raise NobodyThereError(words) from error
                if not is_told and self._allowed_s - left >= TELL_AFTER_S:
                    is_told = True
                    _LOG.warning("%s. Waiting for it for %.0f s", words, left)
                time.sleep(RETRY_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(self.poll_s)
        self._received.clear()

    def send(self, content: bytes) -> None:
        """Send all of it."""
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[self._open_socket().send(rest) :]
            except TimeoutError:
                self.check_time("take what was sent")
            except OSError as error:
                raise GameGone(f"the connection to {self.host}:{self.port} broke: {error}") from error

    def read(self, kind: Struct) -> tuple[Any, ...]:
        """The next numbers."""
        return kind.unpack(self.read_bytes(kind.size))

    def read_bytes(self, number: int) -> bytes:
        """Exactly so many bytes."""
        received = self._received
        while len(received) < number:
            try:
                more = self._open_socket().recv(CHUNK_BYTES)
            except TimeoutError:
                self.check_time(f"send {number} bytes ({len(received)} came)")
                continue
            except OSError as error:
                raise GameGone(f"the connection to {self.host}:{self.port} broke: {error}") from error
            if not more:
                raise GameGone(
                    f"the game at {self.host}:{self.port} closed the connection: it was ended, crashed, or dropped us "
                    "for being slow or for another client"
                )
            received += more
        found = bytes(received[:number])
        del received[:number]
        return found

    @property
    def num_unread(self) -> int:
        """Bytes that have come and were not read."""
        return len(self._received)

    def close(self) -> None:
        """Close; may be called twice."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise GameGone(f"not connected to {self.host}:{self.port}")
        return self._socket

    def check_time(self, what: str) -> None:
        """Raise ``GameTimeout`` behind the deadline; for those who read on although each message comes at once.

        Args:
            what: the game should have done.
        """
        if time.monotonic() >= self.deadline:
            raise GameTimeout(
                f"the game at {self.host}:{self.port} did not {what} within {self._allowed_s:g} s: it hangs, is "
                "minimised, stands in a dialog, or another training drives it"
            )
