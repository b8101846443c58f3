"""A client that outlives its connection: it connects again, starts the game anew, and takes up the race."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from tm_torchrl.game.client import Client, Moment
from tm_torchrl.game.errors import CallRefused, GameError, NobodyThereError
from tm_torchrl.game.instances.protocol import Launched, Launcher
from tm_torchrl.world.actions import Inputs

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class SteadyClient:
    """Another client, made steady.

    When a call fails, the connection is given up and made anew, after longer and longer pauses; after some failures in
    a row the game is ended and started anew, if we started it. Then the game goes back to the state where it was before
    the call, and the call is made again: the race goes on as if nothing had happened, and a step is never played twice
    or half. If nothing helps, the last error is raised; and at once, before the first connection, where trying again
    can mend nothing: a game that nobody has started, a wrong command, a port that is taken, a game in its menus.

    Args:
        client: of one instance.
        instance: its number, counted from 0.
        launcher: starts the game when the first connection is wanted; ``None`` where somebody else starts it.
        address: where the launcher shall let it listen; the client's own by default.
        pauses_s: before each further attempt.
        relaunch_after: failures in a row after which the game is started anew.
        advice: what helps if nobody has started this instance.
        log: takes messages; warnings of ``logging`` by default.
    """

    def __init__(
        self,
        client: Client,
        *,
        instance: int = 0,
        launcher: Launcher | None = None,
        address: int | str | None = None,
        pauses_s: Sequence[float] = (0.0, 1.0, 2.0, 4.0, 8.0),
        relaunch_after: int = 2,
        advice: str = "",
        log: Callable[[str], None] | None = None,
    ) -> None:
        if relaunch_after < 1:
            raise ValueError(f"relaunch_after={relaunch_after}: at least one failure must come before")
        self.client = client
        self.instance = instance
        self.launcher = launcher
        self.pauses_s = tuple(pauses_s)
        self.relaunch_after = relaunch_after
        self.advice = advice
        self.log = log
        self.num_reconnects = 0
        self.num_relaunches = 0
        self._address = client.address if address is None else address
        self._launched: Launched | None = None
        self._has_met = False  # the game, once
        self._state: bytes | None = None  # where the race is

    @property
    def address(self) -> int | str:
        """Of the instance."""
        return self.client.address

    @property
    def timeout_s(self) -> float:
        """Of one attempt at a call."""
        return self.client.timeout_s

    @property
    def connect_timeout_s(self) -> float:
        """Of one attempt at a call in which maps are loaded."""
        return self.client.connect_timeout_s

    @property
    def has_frames(self) -> bool:
        """Whether this protocol delivers pictures."""
        return self.client.has_frames

    @property
    def is_connected(self) -> bool:
        """Whether the other calls may be made."""
        return self.client.is_connected

    @property
    def longest_recovery_s(self) -> float:
        """How long a call may take when every attempt but the last fails as late as it can."""
        attempt_s = self.client.timeout_s + self.client.connect_timeout_s
        return sum(self.pauses_s) + (len(self.pauses_s) + 1) * attempt_s

    def at(self, address: int | str) -> Client:
        """An equal client of another instance, not connected."""
        return SteadyClient(
            self.client.at(address),
            instance=self.instance,
            launcher=self.launcher,
            pauses_s=self.pauses_s,
            relaunch_after=self.relaunch_after,
            advice=self.advice,
            log=self.log,
        )

    def connect(self, *, timeout_s: float | None = None) -> None:
        """Start the game if that is ours to do, and connect, with further attempts."""
        if self.client.is_connected:
            raise CallRefused("connect: the client is connected; close it first")
        self._steadily(lambda: None, timeout_s=timeout_s)

    def load_map(self, path: str, *, timeout_s: float | None = None) -> None:
        """Change to another map."""
        self._state = None
        self._steadily(lambda: self.client.load_map(path, timeout_s=timeout_s))

    def restart(self, *, timeout_s: float | None = None) -> Moment:
        """Begin the race anew."""
        self._state = None
        return self._moved(self._steadily(lambda: self.client.restart(timeout_s=timeout_s)))

    def drive(self, inputs: Inputs, *, num_ticks: int, timeout_s: float | None = None) -> Moment:
        """Hold keys for some ticks."""
        return self._moved(self._steadily(lambda: self.client.drive(inputs, num_ticks=num_ticks, timeout_s=timeout_s)))

    def rewind(self, state: bytes, *, timeout_s: float | None = None) -> None:
        """Go back to a state."""
        self._reboot_if_due()
        self._steadily(lambda: self.client.rewind(state, timeout_s=timeout_s))
        self._state = state

    def frame(self, *, width: int, height: int, timeout_s: float | None = None) -> np.ndarray:
        """The picture of this moment."""
        return self._steadily(lambda: self.client.frame(width=width, height=height, timeout_s=timeout_s))

    def close(self) -> None:
        """Disconnect, and end the game if we started it."""
        self.client.close()
        self._stop_game()

    def _moved(self, moment: Moment) -> Moment:
        self._state = moment.state
        return moment

    def _steadily(self, call: Callable[[], T], *, timeout_s: float | None = None) -> T:
        """The call's result, from a connection that holds."""
        num_failures = 0
        while True:
            try:
                if not self.client.is_connected:
                    self._come_back(timeout_s)
                return call()
            except CallRefused:
                raise
            except GameError as error:
                if self._is_beyond_us(error) and isinstance(error, NobodyThereError):
                    raise NobodyThereError(f"{error}. {self.advice}".rstrip(" .")) from error
                if num_failures >= len(self.pauses_s) or self._is_beyond_us(error):
                    raise
                pause_s = self.pauses_s[num_failures]
                self._tell(f"game {self.instance} at {self.address}: trying again in {pause_s:g} s, since {error}")
                self.client.close()
                time.sleep(pause_s)
                num_failures += 1
                self.num_reconnects += 1
                if self._launched is not None and (
                    not self._launched.is_running or num_failures % self.relaunch_after == 0
                ):
                    self._stop_game()

    def _come_back(self, timeout_s: float | None) -> None:
        """Start the game if it must be, connect, and go back to where the race was."""
        if self.launcher is not None and self._launched is None:
            if self.num_reconnects:
                self.num_relaunches += 1
                self._tell(f"game {self.instance}: it is started anew.")
            self._launched = self.launcher.launch(self.instance, address=self._address)
            self.client = self.client.at(self._launched.address)
        self.client.connect(timeout_s=timeout_s)
        self._has_met = True
        if self._state is not None:
            self.client.rewind(self._state)

    def _is_beyond_us(self, error: GameError) -> bool:
        """Whether a person must mend it first."""
        if self._has_met:
            return False
        return type(error) is GameError or (isinstance(error, NobodyThereError) and self.launcher is None)

    def _reboot_if_due(self) -> None:
        """Between two episodes a game that has run for long is ended; the next call starts it anew."""
        if self._launched is not None and self._launched.is_due:
            self._tell(f"game {self.instance}: it has run for long, and is started anew.")
            self.client.close()
            self._stop_game()
            self._state = None
            self.num_relaunches += 1

    def _stop_game(self) -> None:
        if self._launched is not None:
            with contextlib.suppress(Exception):
                self._launched.stop()
        self._launched = None

    def _tell(self, message: str) -> None:
        (self.log or _LOG.warning)(
            f"{message} ({self.num_reconnects} reconnects, {self.num_relaunches} new starts so far)"
        )
