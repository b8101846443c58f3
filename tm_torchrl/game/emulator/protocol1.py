"""The emulator as TMInterface 1.x: a server of one client, through shared memory.

It calls the client at every tick, checkpoint and lap, and stands still until the call is told processed, answering
requests in between. A client that is late with that is forgotten without a word, as the game does.
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from collections.abc import Callable

from tm_torchrl.game.emulator.race import COUNTDOWN_MS, EmulatedRace
from tm_torchrl.game.errors import ProtocolError
from tm_torchrl.game.state_layout import HEAD_BYTES, SMALLEST
from tm_torchrl.game.tmi1.channel import BUSY_S, MARK, NAP_S, Channel, free_name, pause
from tm_torchrl.game.tmi1.messages import (
    ALREADY_REGISTERED,
    DEFAULT_TIMEOUT_MS,
    DOUBLE,
    FIRST_OF_CLIENT,
    FOREVER_MS,
    INPUTS,
    INT,
    LEAVE_KEY,
    NO_EVENTS,
    NO_PLAYER,
    RUN_MODE,
    TWO_INTS,
    Kind,
)
from tm_torchrl.game.tmi1.state import read_state
from tm_torchrl.tracks import Track, load_track
from tm_torchrl.world.actions import TICK_MS, Inputs

_LOG = logging.getLogger(__name__)
AFTER_REGISTER_S = 0.01  # the client clears all the memory after it has read the answer; a call in it would be lost
LAST_WORDS_S = 0.2  # for a client in the middle of a call, when the emulator ends: an answer must not fail to come
AFTER_FINISH_TICKS = 300  # that the game plays on behind a finish nobody prevented, before it shows a dialog
_ANSWERED = {  # requests that change nothing here, and are answered
    Kind.RESPAWN,
    Kind.HORN,
    Kind.SET_TIME_LIMIT,
    Kind.SET_EVENTS,
    Kind.SET_CHECKPOINTS,
    Kind.SET_EXECUTE_COMMANDS,
    Kind.REMOVE_VALIDATION,
    Kind.REGISTER_COMMAND,
    Kind.LOG,
}


class ClientGone(Exception):
    """The client has left, or was too slow."""


class Protocol1Server:
    """One emulated game behind one channel.

    Args:
        track: to begin with; the ``map`` command loads others, by a built-in name or a ``.npz`` file.
        channel: its name; ``None`` for one that nobody else has.
        is_in_menus: begin in the menus, without a map.
        is_real_time: keep to the game's speed, as it is set; without, only speed 0 means anything.
        countdown_ms: before the start signal.
        load_track_by: finds the track of a map's file name.
    """

    def __init__(
        self,
        track: Track,
        *,
        channel: str | None = None,
        is_in_menus: bool = False,
        is_real_time: bool = False,
        countdown_ms: int = COUNTDOWN_MS,
        load_track_by: Callable[[str], Track] = load_track,
    ) -> None:
        self.race = EmulatedRace(track, countdown_ms=countdown_ms)
        self._is_in_menus = is_in_menus
        self._is_real_time = is_real_time
        self._load_track_by = load_track_by
        self._stopping = threading.Event()
        self._channel = Channel(channel or free_name(), is_server=True)
        self.num_dropped = 0

    @property
    def address(self) -> str:
        """The channel's name."""
        return self._channel.name

    def serve(self) -> None:
        """Serve one client after the other until ``stop``."""
        try:
            while not self._stopping.is_set():
                if not self._register():
                    continue
                try:
                    self._say(Kind.ON_REGISTERED)
                    self._play()
                except ClientGone as reason:
                    _LOG.info("client: %s", reason)
                if self._stopping.is_set():
                    self._channel.write(Kind.SHUTDOWN)
        finally:
            self._channel.close()

    def stop(self) -> None:
        """End ``serve`` soon, from any thread."""
        self._stopping.set()

    # ------------------------------------------------------------------ the game

    def _register(self) -> bool:
        """Wait a moment for a client."""
        time.sleep(NAP_S)
        if self._channel.kind != Kind.REGISTER:  # whatever else stands there was said to nobody
            return False
        self._speed, self._timeout_ms = 1.0, DEFAULT_TIMEOUT_MS
        self._is_told, self._begins_step, self._ticks_after_finish = False, True, 0
        self._channel.write(Kind.RESPONSE)
        end = time.monotonic() + self._timeout_ms / 1000.0
        while self._channel.header:
            if time.monotonic() >= end or self._stopping.is_set():
                self._channel.clear()
                return False
            pause()
        time.sleep(AFTER_REGISTER_S)
        return True

    def _play(self) -> None:
        while not self._stopping.is_set():
            if self._is_in_menus or self._speed == 0.0 or self._ticks_after_finish > AFTER_FINISH_TICKS:
                self._idle()
                continue
            if not self._is_told:
                self._is_told = True
                self._say(Kind.ON_RUN_STEP, INT.pack(self.race.time_ms))
                continue
            self._advance()

    def _advance(self) -> None:
        """Play a tick, and tell what happened in it."""
        race = self.race
        self._is_told = False
        if race.is_finished:  # the clock stands, the game ticks on
            self._ticks_after_finish += 1
            return
        if self._begins_step:
            self._begins_step = False
            race.begin_step()
        before = race.count
        race.advance(1)
        if self._is_real_time:
            time.sleep(TICK_MS / 1000.0 / self._speed)
        if race.count != before:
            self._say(Kind.ON_CHECKPOINT, TWO_INTS.pack(race.count, race.total))
            laps = race.count // race.checkpoints_per_lap
            if laps != before // race.checkpoints_per_lap and not race.is_finished:
                self._say(Kind.ON_LAP, INT.pack(laps))

    def _idle(self) -> None:
        """Nothing happens, and no client is heard but a new one, or one that leaves."""
        time.sleep(NAP_S)
        if self._channel.kind == Kind.DEREGISTER:
            self._channel.clear()
            raise ClientGone("it has left")
        if self._channel.kind == Kind.REGISTER:
            raise ClientGone("a newer one replaces it")

    def _load_map(self, path: str) -> None:
        try:
            self.race = self.race.on_map(path, self._load_track_by)
        except (ValueError, OSError) as error:
            _LOG.warning("map %s: %s", path, error)
            return
        self._is_in_menus = False
        self._restart()

    def _restart(self) -> None:
        self.race.restart()
        self._begins_step, self._ticks_after_finish = True, 0
        self._is_restarted = True

    # ------------------------------------------------------------------ what the client asks for

    def _say(self, kind: Kind, content: bytes = b"") -> None:
        """Call the client, and answer it until it has processed the call."""
        self._is_restarted = False
        self._channel.write(kind, content)
        begin = time.monotonic()
        while (request := self._next_request(begin)) != Kind.PROCESSED_CALL:
            if request == Kind.DEREGISTER:
                self._channel.clear()
                raise ClientGone("it has left")
            self._answer(request)
        (which,) = INT.unpack(self._channel.read(INT.size))
        self._channel.clear()
        if which != kind:
            _LOG.warning("call %d was told processed while %s waited", which, kind.name)
        if self._is_restarted:
            self._is_told = False  # the new race's first step is told before it is played

    def _next_request(self, begin: float) -> int:
        """The next request that is whole; a late client is forgotten."""
        waiting_since = time.monotonic()
        while True:
            header = self._channel.header
            if header & MARK == MARK and header & 0xFF >= FIRST_OF_CLIENT:
                return header & 0xFF
            now = time.monotonic()
            if self._stopping.is_set() and now >= waiting_since + LAST_WORDS_S:
                raise ClientGone("the emulator ends")
            if self._timeout_ms != FOREVER_MS and now >= begin + self._timeout_ms / 1000.0:
                self._channel.clear()
                self.num_dropped += 1
                raise ClientGone(f"it had not processed a call after {self._timeout_ms} ms")
            if now - waiting_since < BUSY_S:
                pause()
            else:
                time.sleep(NAP_S)

    def _answer(self, request: int) -> None:
        race, channel = self.race, self._channel
        content, error = b"", 0
        if request == Kind.SET_INPUTS:
            self._press(INPUTS.unpack(channel.read(INPUTS.size)))
        elif request == Kind.GET_STATE:
            content, error = (bytes(SMALLEST), NO_PLAYER) if self._is_in_menus else (race.state(), 0)
        elif request == Kind.REWIND:
            self._rewind()
        elif request == Kind.GIVE_UP:
            if not self._is_in_menus:
                self._restart()
        elif request == Kind.SET_SPEED:
            (self._speed,) = DOUBLE.unpack(channel.read(DOUBLE.size))
        elif request == Kind.SET_TIMEOUT:
            (self._timeout_ms,) = INT.unpack(channel.read(INT.size))
        elif request == Kind.EXECUTE:
            _, length = TWO_INTS.unpack(channel.read(TWO_INTS.size))
            self._execute(channel.read(max(0, length), at=TWO_INTS.size).decode(errors="replace"))
        elif request == Kind.GET_CONTEXT:
            content = INT.pack(RUN_MODE)
        elif request == Kind.PREVENT_FINISH:
            race.prevent_finish()
        elif request == Kind.GET_CHECKPOINTS:
            content = race.state()[HEAD_BYTES - 8 :]
        elif request == Kind.GET_EVENTS:
            error = NO_EVENTS
        elif request == Kind.REGISTER:
            error = ALREADY_REGISTERED
        elif request not in _ANSWERED:
            _LOG.warning("request %d is unknown", request)
        channel.write(Kind.RESPONSE, content, error=error)

    def _press(self, wanted: tuple[int, ...]) -> None:
        if self._is_in_menus:
            return
        now = self.race.inputs
        before = (now.left, now.right, now.gas, now.brake)
        left, right, gas, brake = (
            was if key == LEAVE_KEY else bool(key) for key, was in zip(wanted[:4], before, strict=True)
        )
        self.race.press(Inputs(gas=gas, brake=brake, left=left, right=right))
        self._begins_step = True  # touches of walls are collected from one decision to the next

    def _rewind(self) -> None:
        try:
            self.race.rewind(read_state(self._channel))
        except (ValueError, ProtocolError) as error:
            _LOG.warning("rewind: %s", error)
            return
        self._ticks_after_finish = 0
        self._begins_step = True

    def _execute(self, command: str) -> None:
        name, _, argument = command.partition(" ")
        if name == "map":
            self._load_map(argument.strip().strip('"'))
        else:
            _LOG.debug("command %s", command)


def server_from(options: argparse.Namespace, track: Track) -> Protocol1Server:
    """The server that a command line asks for."""
    return Protocol1Server(
        track,
        channel=options.channel,
        is_in_menus=options.in_menus,
        is_real_time=options.real_time,
        countdown_ms=options.countdown_ms,
    )
