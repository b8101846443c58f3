"""The emulator as TMInterface 2's link plugin: a TCP server for one client, in the plugin's order of messages.

Like the game, it speaks first (on connecting, at run steps, checkpoints, laps and pictures) and stands still until its
number comes back; in between it takes requests. A client that is silent for longer than its timeout is dropped. Without
a client the race stands still, where the game would go on.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from dataclasses import dataclass
from struct import Struct
from typing import Any

from tm_torchrl.game.emulator.race import EmulatedRace
from tm_torchrl.game.emulator.server import AFTER_FINISH_TICKS, ClientGone, EmulatorServer
from tm_torchrl.game.tmi2.messages import (
    DEFAULT_TIMEOUT_MS,
    FLOAT,
    INT,
    KEYS,
    TWO_INTS,
    UINT,
    Message,
)
from tm_torchrl.world.actions import TICK_MS, Inputs

_LOG = logging.getLogger(__name__)
POLL_S = 0.02  # how often a waiting server checks whether it should end
MAX_TIMEOUT_MS = 3_600_000  # a client that is silent for longer gives its place to the next one
MAX_PERIOD_MS = 60_000  # between run steps, at which other requests are taken
MAX_BYTES = 1 << 24  # of one request; a greater length is a sign of a stream out of step


@dataclass(kw_only=True, eq=False, repr=False)
class Protocol2Server(EmulatorServer):
    """One emulated game on one port; see ``EmulatorServer`` for the other arguments.

    Args:
        host: Address to listen at. The protocol has no password, so anything but loopback lets others in.
        port: Port to listen at; 0 lets the system choose.
    """

    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port={self.port}: must be 0 to 65535")
        super().__post_init__()
        self.last_farewell = ""  # why the last client is gone
        self._listener = socket.create_server((self.host, self.port), backlog=1)
        self.port = int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        """Host and port that it listens at."""
        host, port = self._listener.getsockname()[:2]
        return f"{host}:{port}"

    def serve(self) -> None:
        """Serve one client after the other until ``stop``."""
        with self._listener:
            while not self._stopping.is_set():
                if not select.select([self._listener], [], [], POLL_S)[0]:
                    continue
                client, address = self._listener.accept()
                with client:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    client.settimeout(POLL_S)
                    self._begin_session()
                    self._socket = client
                    try:
                        self._play()
                    except (ClientGone, OSError) as reason:
                        self.last_farewell = str(reason)
                        _LOG.info("client %s: %s", address, reason)

    # ------------------------------------------------------------------ the game

    def _begin_session(self) -> None:
        super()._begin_session()
        self._timeout_ms = DEFAULT_TIMEOUT_MS
        self._period_ms = TICK_MS
        self._frame_size: tuple[int, int] | None = None
        self._received = bytearray()
        self._to_send = bytearray()

    def _play(self) -> None:
        self._say(Message.ON_CONNECT)
        while not self._stopping.is_set():
            is_frozen = self._speed == 0.0 and self._frame_size is None
            if self.is_in_menus or is_frozen or self._ticks_after_finish > AFTER_FINISH_TICKS:
                self._idle()
                continue
            if self._speed != 0.0:
                if not self._is_reported and (self.race.is_finished or self.race.time_ms % self._period_ms == 0):
                    self._is_reported = self._begins_step = True
                    self._say(Message.RUN_STEP, INT.pack(self.race.time_ms))
                    continue
                # To the next run step, or to a checkpoint before it.
                self._advance(max(1, (self._period_ms - self.race.time_ms % self._period_ms) // TICK_MS))
            if self._frame_size is not None:
                width, height = self._frame_size
                self._say(Message.FRAME, self.race.frame(width=width, height=height))
                self._frame_size = None

    def _say_checkpoint(self, race: EmulatedRace) -> None:
        self._say(Message.CHECKPOINT, TWO_INTS.pack(race.count, race.total))

    def _say_lap(self, race: EmulatedRace, laps: int) -> None:
        self._say(Message.LAP, TWO_INTS.pack(laps, race.num_laps))

    def _idle(self) -> None:
        """Nothing happens and nothing is read, until the client closes the connection or a newer one comes."""
        self._flush()
        readable = select.select([self._listener, self._socket], [], [], POLL_S)[0]
        if self._listener in readable:
            raise ClientGone("a newer one replaces it")
        if self._socket in readable:
            if not self._socket.recv(1, socket.MSG_PEEK):
                raise ClientGone("it closed the connection")
            time.sleep(POLL_S)  # its bytes stay unread

    def _restart(self) -> None:
        super()._restart()
        self._is_reported = False

    # ------------------------------------------------------------------ requests of the client

    def _say(self, message: Message, content: bytes = b"") -> None:
        """Send a message, then take requests until its number comes back."""
        self._to_send += INT.pack(message) + content
        while (request := self._read(INT)[0]) != message:
            if request == Message.SHUTDOWN:
                raise ClientGone("it said good-bye")
            if not Message.SET_SPEED <= request <= Message.GET_INPUTS:
                _LOG.warning("unknown message %d instead of %s", request, message.name)
                continue  # as in the plugin, what follows is read as further messages
            self._answer(Message(request), message)

    def _answer(self, request: Message, during: Message) -> None:
        race = self.race
        if request == Message.SET_SPEED:
            self._speed = self._read(FLOAT)[0]
        elif request == Message.REWIND_TO_STATE:
            state = self._read_bytes()
            if not self.is_in_menus:
                is_done = self._rewind(state)
                if is_done and during in (Message.RUN_STEP, Message.FRAME):
                    self._is_reported = self._begins_step = True  # the next run step comes one tick later or more
        elif request == Message.GET_STATE:
            state = b"\0" if self.is_in_menus else race.state()
            self._to_send += INT.pack(len(state)) + state
        elif request == Message.SET_INPUTS:
            left, right, gas, brake = (bool(key) for key in self._read(KEYS))
            if not self.is_in_menus:
                race.press(Inputs(gas=gas, brake=brake, left=left, right=right))
        elif request == Message.GIVE_UP:
            if not self.is_in_menus:
                self._restart()
        elif request == Message.PREVENT_FINISH:
            race.prevent_finish()
        elif request == Message.EXECUTE:
            self._execute(self._read_bytes().decode(errors="replace"))
        elif request == Message.SET_TIMEOUT:
            self._timeout_ms = min(self._read(UINT)[0], MAX_TIMEOUT_MS)
        elif request == Message.IS_FINISHED:
            self._to_send += INT.pack(race.is_finished)
        elif request == Message.REQUEST_FRAME:
            width, height = self._read(TWO_INTS)
            if not (0 < width <= 4096 and 0 < height <= 4096):
                raise ClientGone(f"it requested a picture of {width} x {height} pixels")
            self._frame_size = (width, height)
        elif request == Message.UNREQUEST_FRAME:
            self._frame_size = None
        elif request == Message.SET_STEP_PERIOD:
            (period_ms,) = self._read(INT)
            if not TICK_MS <= period_ms <= MAX_PERIOD_MS or period_ms % TICK_MS:
                raise ClientGone(f"it requested a run step every {period_ms} ms")
            self._period_ms = period_ms
        elif request == Message.TOGGLE_INTERFACE:
            self._read(INT)
        elif request == Message.IS_IN_MENUS:
            self._to_send += INT.pack(self.is_in_menus)
        elif request == Message.GET_INPUTS:
            text = race.inputs_text().encode()
            self._to_send += INT.pack(len(text)) + text
        # REWIND_TO_CURRENT and RESET_CAMERA change nothing here.

    # ------------------------------------------------------------------ bytes

    def _read(self, kind: Struct) -> tuple[Any, ...]:
        while len(self._received) < kind.size:
            self._receive()
        found = kind.unpack_from(self._received)
        del self._received[: kind.size]
        return found

    def _read_bytes(self) -> bytes:
        (length,) = self._read(INT)
        if not 0 <= length <= MAX_BYTES:
            raise ClientGone(f"it announced {length} bytes")
        while len(self._received) < length:
            self._receive()
        found = bytes(self._received[:length])
        del self._received[:length]
        return found

    def _receive(self) -> None:
        """Send what is waiting to be sent, then wait for bytes."""
        self._flush()
        end = time.monotonic() + self._timeout_ms / 1000.0
        while True:
            try:
                received = self._socket.recv(1 << 16)
                break
            except TimeoutError:
                if self._stopping.is_set():
                    raise ClientGone("the emulator ends") from None
                if time.monotonic() >= end:
                    raise ClientGone(f"it was silent for {self._timeout_ms} ms") from None
        if not received:
            raise ClientGone("it closed the connection")
        self._received += received

    def _flush(self) -> None:
        rest = memoryview(bytes(self._to_send))
        self._to_send.clear()
        end = time.monotonic() + self._timeout_ms / 1000.0
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                if self._stopping.is_set() or time.monotonic() >= end:
                    raise ClientGone(f"it read nothing for {self._timeout_ms} ms") from None
