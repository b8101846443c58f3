"""The emulator as TMInterface 2's link plugin: a TCP server of one client, in the plugin's order of messages.

As the game does, it speaks first (on connecting, at run steps, checkpoints, laps, pictures) and stands still until its
number comes back, taking requests in between; a client that is silent for longer than its timeout is dropped. Where
nobody is connected the race stands still, and the game would go on.
"""

from __future__ import annotations

import argparse
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from struct import Struct
from typing import Any

from tm_torchrl.game.emulator.race import COUNTDOWN_MS, EmulatedRace
from tm_torchrl.game.errors import ProtocolError
from tm_torchrl.game.tmi2.messages import (
    DEFAULT_TIMEOUT_MS,
    FLOAT,
    INT,
    KEYS,
    TWO_INTS,
    UINT,
    Message,
)
from tm_torchrl.tracks import Track, load_track
from tm_torchrl.world.actions import TICK_MS, Inputs

_LOG = logging.getLogger(__name__)
POLL_S = 0.02  # how often a waiting server looks whether it should end
MAX_BYTES = 1 << 24  # of one request; more is a stream out of step
AFTER_FINISH_TICKS = 300  # that the game plays on behind a finish nobody prevented, before it shows a dialog


class ClientGone(Exception):
    """The client left, was too slow, or sent what cannot be meant so."""


class Protocol2Server:
    """One emulated game on one port.

    Args:
        track: to begin with; the ``map`` command loads others, by a built-in name or a ``.npz`` file.
        host: loopback unless told otherwise: the protocol has no password.
        port: 0 lets the system choose.
        is_in_menus: begin in the menus, without a map.
        is_real_time: keep to the game's speed, as ``set_speed`` sets it; without, only speed 0 means anything.
        countdown_ms: before the start signal.
        load_track_by: finds the track of a map's file name.
    """

    def __init__(
        self,
        track: Track,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        is_in_menus: bool = False,
        is_real_time: bool = False,
        countdown_ms: int = COUNTDOWN_MS,
        load_track_by: Callable[[str], Track] = load_track,
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port={port}: 0 to 65535 wanted")
        self.race = EmulatedRace(track, countdown_ms=countdown_ms)
        self._is_in_menus = is_in_menus
        self._is_real_time = is_real_time
        self._load_track_by = load_track_by
        self.last_farewell = ""  # why the last client is gone
        self._stopping = threading.Event()
        self._listener = socket.create_server((host, port), backlog=1)
        self.port = int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        """Where it listens: host and port."""
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

    def stop(self) -> None:
        """End ``serve`` soon, from any thread."""
        self._stopping.set()

    # ------------------------------------------------------------------ the game

    def _begin_session(self) -> None:
        self._speed = 1.0
        self._timeout_ms = DEFAULT_TIMEOUT_MS
        self._period_ms = TICK_MS
        self._frame_size: tuple[int, int] | None = None
        self._received = bytearray()
        self._to_send = bytearray()
        self._is_told = False  # the run step of this moment
        self._begins_step = True
        self._ticks_after_finish = 0

    def _play(self) -> None:
        self._say(Message.ON_CONNECT)
        while not self._stopping.is_set():
            is_frozen = self._speed == 0.0 and self._frame_size is None
            if self._is_in_menus or is_frozen or self._ticks_after_finish > AFTER_FINISH_TICKS:
                self._idle()
                continue
            if self._speed != 0.0:
                if not self._is_told and (self.race.is_finished or self.race.time_ms % self._period_ms == 0):
                    self._is_told = self._begins_step = True
                    self._say(Message.RUN_STEP, INT.pack(self.race.time_ms))
                    continue
                self._advance()
            if self._frame_size is not None:
                width, height = self._frame_size
                self._say(Message.FRAME, self.race.frame(width=width, height=height))
                self._frame_size = None

    def _advance(self) -> None:
        """Play to the next run step, or to the checkpoint before it."""
        race = self.race
        self._is_told = False
        if race.is_finished:  # the clock stands, the game ticks on
            self._ticks_after_finish += 1
            return
        num_ticks = (self._period_ms - race.time_ms % self._period_ms) // TICK_MS
        if self._begins_step:
            self._begins_step = False
            race.begin_step()
        before = race.count
        played = race.advance(max(1, num_ticks))
        if self._is_real_time:
            time.sleep(played * TICK_MS / 1000.0 / self._speed)
        if race.count != before:
            self._say(Message.CHECKPOINT, TWO_INTS.pack(race.count, race.total))
            laps = race.count // race.checkpoints_per_lap
            if laps != before // race.checkpoints_per_lap and not race.is_finished:
                self._say(Message.LAP, TWO_INTS.pack(laps, race.num_laps))

    def _idle(self) -> None:
        """Nothing happens, and nothing is read; a client that has closed is noticed, and a newer one replaces it."""
        self._flush()
        readable = select.select([self._listener, self._socket], [], [], POLL_S)[0]
        if self._listener in readable:
            raise ClientGone("a newer one replaces it")
        if self._socket in readable:
            if not self._socket.recv(1, socket.MSG_PEEK):
                raise ClientGone("closed")
            time.sleep(POLL_S)  # its bytes lie unread

    def _restart(self) -> None:
        self.race.restart()
        self._is_told, self._begins_step, self._ticks_after_finish = False, True, 0

    def _load_map(self, path: str) -> None:
        try:
            self.race = self.race.on_map(path, self._load_track_by)
        except (ValueError, OSError) as error:
            _LOG.warning("map %s: %s", path, error)
            return
        self._is_in_menus = False
        self._restart()

    # ------------------------------------------------------------------ what the client asks for

    def _say(self, message: Message, content: bytes = b"") -> None:
        """Tell something, then take requests until its number comes back."""
        self._to_send += INT.pack(message) + content
        while (request := self._read(INT)[0]) != message:
            if request == Message.SHUTDOWN:
                raise ClientGone("it said good-bye")
            if not Message.SET_SPEED <= request <= Message.GET_INPUTS:
                _LOG.warning("unknown message %d while %s waits", request, message.name)
                continue  # as the plugin: what follows is read as further messages
            self._answer(Message(request), message)

    def _answer(self, request: Message, during: Message) -> None:
        race = self.race
        if request == Message.SET_SPEED:
            self._speed = self._read(FLOAT)[0]
        elif request == Message.REWIND_TO_STATE:
            state = self._read_bytes()
            if not self._is_in_menus:
                self._rewind(state, during)
        elif request == Message.GET_STATE:
            state = b"\0" if self._is_in_menus else race.state()
            self._to_send += INT.pack(len(state)) + state
        elif request == Message.SET_INPUTS:
            left, right, gas, brake = (bool(key) for key in self._read(KEYS))
            if not self._is_in_menus:
                race.press(Inputs(gas=gas, brake=brake, left=left, right=right))
        elif request == Message.GIVE_UP:
            if not self._is_in_menus:
                self._restart()
        elif request == Message.PREVENT_FINISH:
            race.prevent_finish()
        elif request == Message.EXECUTE:
            self._execute(self._read_bytes().decode(errors="replace"))
        elif request == Message.SET_TIMEOUT:
            self._timeout_ms = self._read(UINT)[0]
        elif request == Message.IS_FINISHED:
            self._to_send += INT.pack(race.is_finished)
        elif request == Message.REQUEST_FRAME:
            width, height = self._read(TWO_INTS)
            if not (0 < width <= 4096 and 0 < height <= 4096):
                raise ClientGone(f"it asks for a picture of {width} x {height}")
            self._frame_size = (width, height)
        elif request == Message.UNREQUEST_FRAME:
            self._frame_size = None
        elif request == Message.SET_STEP_PERIOD:
            (period_ms,) = self._read(INT)
            if period_ms < TICK_MS or period_ms % TICK_MS:
                raise ClientGone(f"it asks for a run step each {period_ms} ms")
            self._period_ms = period_ms
        elif request == Message.TOGGLE_INTERFACE:
            self._read(INT)
        elif request == Message.IS_IN_MENUS:
            self._to_send += INT.pack(self._is_in_menus)
        elif request == Message.GET_INPUTS:
            text = race.inputs_text().encode()
            self._to_send += INT.pack(len(text)) + text
        # REWIND_TO_CURRENT and RESET_CAMERA change nothing here.

    def _rewind(self, state: bytes, during: Message) -> None:
        try:
            self.race.rewind(state)
        except (ValueError, ProtocolError) as error:
            _LOG.warning("rewind: %s", error)
            return
        self._ticks_after_finish = 0
        if during in (Message.RUN_STEP, Message.FRAME):  # the game's next run step comes after a tick
            self._is_told = self._begins_step = True

    def _execute(self, command: str) -> None:
        name, _, argument = command.partition(" ")
        if name == "map":
            self._load_map(argument.strip().strip('"'))
        else:
            _LOG.debug("command %s", command)

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
            raise ClientGone(f"it announces {length} bytes")
        while len(self._received) < length:
            self._receive()
        found = bytes(self._received[:length])
        del self._received[:length]
        return found

    def _receive(self) -> None:
        """Wait for bytes; what is to be said goes out first."""
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
                    raise ClientGone(f"silent for {self._timeout_ms} ms") from None
        if not received:
            raise ClientGone("closed")
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


def server_from(options: argparse.Namespace, track: Track) -> Protocol2Server:
    """The server that a command line asks for."""
    return Protocol2Server(
        track,
        host=options.host,
        port=options.port,
        is_in_menus=options.in_menus,
        is_real_time=options.real_time,
        countdown_ms=options.countdown_ms,
    )
