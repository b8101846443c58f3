"""A TCP connection with deadlines: it delivers an exact number of bytes in time, or raises a typed error."""

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
WARN_AFTER_S = 2.0  # waiting time after which a warning is logged
CHUNK_BYTES = 1 << 17


class Connection:
    """A connection to the game.

    Args:
        host: Host that the game runs on.
        port: Port of the game instance.
        poll_s: How often a waiting call checks its deadline, which it may miss by that much.
    """

    def __init__(self, host: str, port: int, *, poll_s: float = 0.02) -> None:
        if not 0 <= port <= 65535:  # the system would take it modulo 65536
            raise ValueError(f"port={port}: must be 1 to 65535, or 0 where a launcher chooses")
        self.host, self.port = host, port
        self.poll_s = poll_s
        self.deadline = 0.0
        self._timeout_s = 0.0
        self._socket: socket.socket | None = None
        self._received = bytearray()

    def set_deadline(self, timeout_s: float) -> None:
        """All calls until the next ``set_deadline`` end within ``timeout_s`` from now."""
        self._timeout_s = timeout_s
        self.deadline = time.monotonic() + timeout_s

    def open(self) -> None:
        """Connect, with further attempts until the deadline."""
        self.close()
        has_warned = False
        while True:
            left_s = self.deadline - time.monotonic()
            try:
                self._socket = socket.create_connection((self.host, self.port), timeout=max(0.01, min(left_s, 2.0)))
                break
            except OSError as error:
                message = self._no_answer(error)
                if left_s <= RETRY_S:
                    raise NobodyThereError(message) from error
                if not has_warned and self._timeout_s - left_s >= WARN_AFTER_S:
                    has_warned = True
                    _LOG.warning("%s. Waiting for %.0f s", message, left_s)
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
        """Exactly ``number`` bytes."""
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
                    f"the game at {self.host}:{self.port} closed the connection: it was ended, crashed, or dropped "
                    "this client for being slow or for another client"
                )
            received += more
            if len(received) < number:  # a game that sends a byte now and then never lets the socket time out
                self.check_time(f"send {number} bytes ({len(received)} came)")
        found = bytes(received[:number])
        del received[:number]
        return found

    def close(self) -> None:
        """Close the connection; may be called twice."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None

    def check_time(self, what: str) -> None:
        """Raise ``GameTimeout`` after the deadline.

        For callers whose single reads succeed at once but never bring the awaited message.

        Args:
            what: What the game should have done, for the error message.
        """
        if time.monotonic() >= self.deadline:
            raise GameTimeout(
                f"the game at {self.host}:{self.port} did not {what} within {self._timeout_s:g} s: it hangs, is "
                "minimised, shows a dialog, or another training drives it"
            )

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise GameGone(f"not connected to {self.host}:{self.port}")
        return self._socket

    def _no_answer(self, error: OSError) -> str:
        if isinstance(error, TimeoutError):  # where no program listens, the system refuses at once
            hint = "If the game is running, it hangs, another training drives it, or a firewall blocks the connection"
        else:
            hint = (
                "Is the game running? Does its console say that the plugin is loaded, and does its start command "
                f"contain `set custom_port {self.port}`? TMInterface 1.x has another protocol: use game=tmi1"
            )
        return f"nobody answers at {self.host}:{self.port} ({error}). {hint}"
