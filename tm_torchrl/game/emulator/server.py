"""What the emulators of both protocols have in common: one game, its menus, its maps, and its clock."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from tm_torchrl.game.emulator.race import COUNTDOWN_MS, EmulatedRace
from tm_torchrl.game.errors import ProtocolError
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import TICK_MS

_LOG = logging.getLogger(__name__)
AFTER_FINISH_TICKS = 300  # the game plays on this long after a finish that nobody prevented, then it shows a dialog


class ClientGone(Exception):
    """The client left, was too slow, or sent an invalid request."""


@dataclass(kw_only=True, eq=False, repr=False)
class EmulatorServer(ABC):
    """One emulated game for one client at a time.

    Args:
        track: Track to begin with; the ``map`` command loads others, by a built-in name or a ``.npz`` file.
        is_in_menus: Whether the game is in its menus, without a map, until one is loaded.
        is_real_time: Whether the game keeps to the speed that is set; otherwise it is as fast as possible, except that
            speed 0 freezes it.
        countdown_ms: Time before the start signal.
    """

    track: Track = field(kw_only=False)
    is_in_menus: bool = False
    is_real_time: bool = False
    countdown_ms: int = COUNTDOWN_MS

    def __post_init__(self) -> None:
        self.race = EmulatedRace(self.track, countdown_ms=self.countdown_ms)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End ``serve`` soon; may be called from any thread."""
        self._stopping.set()

    def _begin_session(self) -> None:
        """Forget the last client."""
        self._speed = 1.0
        self._is_reported = False  # whether the client knows of the present run step
        self._begins_step = True  # wall contacts are collected from one decision to the next
        self._ticks_after_finish = 0

    def _advance(self, num_ticks: int) -> None:
        """Play ticks, up to a checkpoint at most, and report what happened."""
        race = self.race
        self._is_reported = False
        if race.is_finished:  # the clock stands, but the game goes on
            self._ticks_after_finish += 1
            return
        if self._begins_step:
            self._begins_step = False
            race.begin_step()
        before = race.count
        played = race.advance(num_ticks)
        if self.is_real_time:
            time.sleep(played * TICK_MS / 1000.0 / self._speed)
        if race.count != before:
            self._say_checkpoint(race)
            laps = race.count // race.checkpoints_per_lap
            if laps != before // race.checkpoints_per_lap and not race.is_finished:
                self._say_lap(race, laps)

    def _restart(self) -> None:
        self.race.restart()
        self._begins_step, self._ticks_after_finish = True, 0

    def _rewind(self, state: bytes) -> bool:
        """Go back to a state; returns whether it is one."""
        try:
            self.race.rewind(state)
        except (ValueError, ProtocolError) as error:
            _LOG.warning("rewind: %s", error)
            return False
        self._ticks_after_finish = 0
        return True

    def _execute(self, command: str) -> None:
        name, _, argument = command.partition(" ")
        if name == "map":
            self._load_map(argument.strip().strip('"'))
        else:
            _LOG.debug("command %s", command)

    def _load_map(self, path: str) -> None:
        try:
            self.race = self.race.on_map(path)
        except (ValueError, OSError) as error:
            _LOG.warning("map %s: %s", path, error)
            return
        self.is_in_menus = False
        self._restart()

    @abstractmethod
    def _say_checkpoint(self, race: EmulatedRace) -> None:
        """Report a checkpoint, and serve the client until it lets the game go on."""

    @abstractmethod
    def _say_lap(self, race: EmulatedRace, laps: int) -> None:
        """Report a lap, and serve the client until it lets the game go on."""
