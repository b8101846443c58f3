"""The emulator as TMInterface 1.x: a server for one client, through shared memory.

It calls the client at every tick, checkpoint and lap, and stands still until the client reports the call as processed;
in between it answers requests. Like the game, it drops a client that takes too long, without telling it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from tm_torchrl.game.emulator.race import EmulatedRace
from tm_torchrl.game.emulator.server import AFTER_FINISH_TICKS, ClientGone, EmulatorServer
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
from tm_torchrl.world.actions import Inputs

_LOG = logging.getLogger(__name__)
AFTER_REGISTER_S = 0.01  # the client clears all the memory after it has read the answer, including an earlier call
LAST_ANSWERS_S = 0.2  # when the emulator ends, a client in the middle of a call still gets its answers
_WITHOUT_EFFECT = {  # requests that are answered but change nothing here
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


@dataclass(kw_only=True, eq=False, repr=False)
class Protocol1Server(EmulatorServer):
    """One emulated game behind one channel; see ``EmulatorServer`` for the other arguments.

    Args:
        channel: The channel's name; ``None`` for one that nobody else uses.
    """

    channel: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._channel = Channel(self.channel or free_name(), is_server=True)
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

    # ------------------------------------------------------------------ the game

    def _register(self) -> bool:
        """Wait briefly for a client, and register it; returns whether one came."""
        time.sleep(NAP_S)
        if self._channel.kind != Kind.REGISTER:  # any other message was for an earlier server
            return False
        self._begin_session()
        self._timeout_ms = DEFAULT_TIMEOUT_MS
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
            if self.is_in_menus or self._speed == 0.0 or self._ticks_after_finish > AFTER_FINISH_TICKS:
                self._idle()
                continue
            if not self._is_reported:
                self._is_reported = True
                self._say(Kind.ON_RUN_STEP, INT.pack(self.race.time_ms))
                continue
            self._advance(1)

    def _say_checkpoint(self, race: EmulatedRace) -> None:
        self._say(Kind.ON_CHECKPOINT, TWO_INTS.pack(race.count, race.total))

    def _say_lap(self, race: EmulatedRace, laps: int) -> None:
        self._say(Kind.ON_LAP, INT.pack(laps))

    def _idle(self) -> None:
        """Nothing happens, until a new client comes or the present one leaves."""
        time.sleep(NAP_S)
        if self._channel.kind == Kind.DEREGISTER:
            self._channel.clear()
            raise ClientGone("it has left")
        if self._channel.kind == Kind.REGISTER:
            raise ClientGone("a newer one replaces it")

    def _restart(self) -> None:
        super()._restart()
        self._is_restarted = True

    # ------------------------------------------------------------------ requests of the client

    def _say(self, kind: Kind, content: bytes = b"") -> None:
        """Call the client, and answer its requests until it has processed the call."""
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
            _LOG.warning("the client processed call %d instead of %s", which, kind.name)
        if self._is_restarted:
            self._is_reported = False  # the new race's first run step is reported before it is played

    def _next_request(self, begin: float) -> int:
        """The next complete request; a client that takes too long is dropped."""
        waiting_since = time.monotonic()
        while True:
            header = self._channel.header
            if header & MARK == MARK and header & 0xFF >= FIRST_OF_CLIENT:
                return header & 0xFF
            now = time.monotonic()
            if self._stopping.is_set() and now >= waiting_since + LAST_ANSWERS_S:
                raise ClientGone("the emulator ends")
            if self._timeout_ms != FOREVER_MS and now >= begin + self._timeout_ms / 1000.0:
                self._channel.clear()
                self.num_dropped += 1
                raise ClientGone(f"it did not process a call within {self._timeout_ms} ms")
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
            content, error = (bytes(SMALLEST), NO_PLAYER) if self.is_in_menus else (race.state(), 0)
        elif request == Kind.REWIND:
            try:
                self._begins_step = self._rewind(read_state(channel)) or self._begins_step
            except ProtocolError as reason:
                _LOG.warning("rewind: %s", reason)
        elif request == Kind.GIVE_UP:
            if not self.is_in_menus:
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
        elif request not in _WITHOUT_EFFECT:
            _LOG.warning("request %d is unknown", request)
        channel.write(Kind.RESPONSE, content, error=error)

    def _press(self, keys: tuple[int, ...]) -> None:
        if self.is_in_menus:
            return
        now = self.race.inputs
        before = (now.left, now.right, now.gas, now.brake)
        left, right, gas, brake = (
            was if key == LEAVE_KEY else bool(key) for key, was in zip(keys[:4], before, strict=True)
        )
        self.race.press(Inputs(gas=gas, brake=brake, left=left, right=right))
        self._begins_step = True
