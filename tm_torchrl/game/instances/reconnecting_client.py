"""A client that survives failures: it reconnects, restarts the game if necessary, and continues the race."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from tm_torchrl.game.client import Client, Snapshot
from tm_torchrl.game.errors import CallRefused, GameError, NobodyThereError
from tm_torchrl.game.instances.protocol import LaunchedGame, Launcher
from tm_torchrl.world.actions import Inputs

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class ReconnectingClient:
    """Wraps a client, and repeats calls that fail.

    When a call fails, the client disconnects and connects again, after longer and longer pauses. After several failures
    in a row the game is restarted, if the launcher has started it. Then the game rewinds to the state before the call,
    and the call is repeated: the race continues as if nothing had happened, and no step is played twice or in part. If
    all attempts fail, the last error is raised. Before the first connection, errors that further attempts cannot fix
    are raised at once: no game is running, the command is wrong, the port is taken, the game shows its menus.

    Args:
        client: Client of one instance.
        instance: Number of the instance, counted from 0.
        launcher: Starts the game before the first connection; ``None`` if it is started by other means.
        address: Address that the launcher gives to the game; the client's own by default.
        pauses_s: Pauses before further attempts; their number limits the attempts.
        relaunch_after: Number of failures in a row after which the game is restarted.
        hint: Added to the error message if no game is running.
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
        hint: str = "",
    ) -> None:
        if relaunch_after < 1:
            raise ValueError(f"relaunch_after={relaunch_after}: must be at least 1")
        self.client = client
        self.timeout_s, self.connect_timeout_s = client.timeout_s, client.connect_timeout_s  # of one attempt
        self.instance = instance
        self.launcher = launcher
        self.pauses_s = tuple(pauses_s)
        self.relaunch_after = relaunch_after
        self.hint = hint
        self.num_reconnects = 0
        self.num_relaunches = 0
        self._address = client.address if address is None else address
        self._launched: LaunchedGame | None = None
        self._has_been_connected = False
        self._state: bytes | None = None  # where the race is

    @property
    def address(self) -> int | str:
        """Address of the instance."""
        return self.client.address

    @property
    def has_frames(self) -> bool:
        """Whether this protocol delivers pictures."""
        return self.client.has_frames

    @property
    def is_connected(self) -> bool:
        """Whether the game waits for this client."""
        return self.client.is_connected

    @property
    def longest_recovery_s(self) -> float:
        """How long a call takes if every attempt but the last fails as late as it can."""
        attempt_s = self.timeout_s + self.connect_timeout_s
        return sum(self.pauses_s) + (len(self.pauses_s) + 1) * attempt_s

    def at(self, address: int | str) -> Client:
        """A new client with the same settings for another instance, not connected."""
        return ReconnectingClient(
            self.client.at(address),
            instance=self.instance,
            launcher=self.launcher,
            pauses_s=self.pauses_s,
            relaunch_after=self.relaunch_after,
            hint=self.hint,
        )

    def connect(self, *, timeout_s: float | None = None) -> None:
        """Start the game if there is a launcher, and connect."""
        if self.client.is_connected:
            raise CallRefused("connect: the client is connected; close it first")
        self._repeat(lambda: None, timeout_s=timeout_s)

    def load_map(self, path: str, *, timeout_s: float | None = None) -> None:
        """Change to another map."""
        self._state = None
        self._repeat(lambda: self.client.load_map(path, timeout_s=timeout_s))

    def restart(self, *, timeout_s: float | None = None) -> Snapshot:
        """Restart the race."""
        self._state = None
        return self._remember(self._repeat(lambda: self.client.restart(timeout_s=timeout_s)))

    def drive(self, inputs: Inputs, *, num_ticks: int, timeout_s: float | None = None) -> Snapshot:
        """Hold keys for ``num_ticks`` of 10 ms."""
        return self._remember(self._repeat(lambda: self.client.drive(inputs, num_ticks=num_ticks, timeout_s=timeout_s)))

    def rewind(self, state: bytes, *, timeout_s: float | None = None) -> None:
        """Go back to a state."""
        self._stop_if_due()
        self._repeat(lambda: self.client.rewind(state, timeout_s=timeout_s))
        self._state = state

    def frame(self, *, width: int, height: int, timeout_s: float | None = None) -> np.ndarray:
        """The picture where the game waits, in grey."""
        return self._repeat(lambda: self.client.frame(width=width, height=height, timeout_s=timeout_s))

    def close(self) -> None:
        """Disconnect, and end the game if the launcher has started it."""
        self.client.close()
        self._stop_game()

    def _remember(self, snapshot: Snapshot) -> Snapshot:
        self._state = snapshot.state
        return snapshot

    def _repeat(self, call: Callable[[], T], *, timeout_s: float | None = None) -> T:
        """The result of a call, which is repeated until it succeeds or the attempts are used up."""
        num_failures = 0
        while True:
            try:
                if not self.client.is_connected:
                    self._recover(timeout_s)
                return call()
            except CallRefused:
                raise
            except GameError as error:
                is_hopeless = self._is_hopeless(error)
                if is_hopeless and isinstance(error, NobodyThereError):
                    raise NobodyThereError(f"{error}. {self.hint}".rstrip(" .")) from error
                if is_hopeless or num_failures >= len(self.pauses_s):
                    raise
                pause_s = self.pauses_s[num_failures]
                self._log(f"game {self.instance} at {self.address}: trying again in {pause_s:g} s after: {error}")
                self.client.close()
                time.sleep(pause_s)
                num_failures += 1
                self.num_reconnects += 1
                if self._launched is not None and (
                    not self._launched.is_running or num_failures % self.relaunch_after == 0
                ):
                    self._stop_game()

    def _recover(self, timeout_s: float | None) -> None:
        """Start the game if necessary, connect, and go back to where the race was."""
        if self.launcher is not None and self._launched is None:
            if self.num_reconnects:
                self.num_relaunches += 1
                self._log(f"game {self.instance}: restarting it.")
            self._launched = self.launcher.launch(self.instance, address=self._address)
            self.client = self.client.at(self._launched.address)
        self.client.connect(timeout_s=timeout_s)
        self._has_been_connected = True
        if self._state is not None:
            self.client.rewind(self._state)

    def _is_hopeless(self, error: GameError) -> bool:
        """Whether further attempts would fail until a person fixes the cause."""
        if self._has_been_connected:
            return False
        return type(error) is GameError or (isinstance(error, NobodyThereError) and self.launcher is None)

    def _stop_if_due(self) -> None:
        """Between two episodes, stop a game that is due for a restart; the next call starts it."""
        if self._launched is not None and self._launched.is_due:
            self._log(f"game {self.instance}: restarting it, because it has run for long.")
            self.client.close()
            self._stop_game()
            self._state = None
            self.num_relaunches += 1

    def _stop_game(self) -> None:
        if self._launched is not None:
            with contextlib.suppress(Exception):
                self._launched.stop()
        self._launched = None

    def _log(self, message: str) -> None:
        _LOG.warning("%s (%d reconnects, %d restarts so far)", message, self.num_reconnects, self.num_relaunches)
