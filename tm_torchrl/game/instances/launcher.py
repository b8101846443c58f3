"""Starting the real game: a command for each instance, its port, its processes, its time to be started anew."""

from __future__ import annotations

import logging
import shlex
import string
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tm_torchrl.game.errors import GameError, GameGone, GameTimeout
from tm_torchrl.game.instances.ports import free_port, is_port_taken
from tm_torchrl.game.instances.processes import OwnedProcesses

_LOG = logging.getLogger(__name__)
_POLL_S = 0.1
FOCUS_HINT = (
    "game %d listens at port %d. Click once into its window (and again after a map change) if its car does not move, "
    "and do not minimise it: a minimised game draws nothing, and takes no connection"
)
KNOWN = ("port", "instance")


class RunningGame:
    """A game that we started.

    Args:
        processes: the command and what it has started.
        port: where it listens.
        reboot_s: after which it should be started anew; ``None`` for never.
        stop_timeout_s: that it has to end by itself.
    """

    def __init__(
        self, processes: OwnedProcesses, *, port: int, reboot_s: float | None = None, stop_timeout_s: float = 5.0
    ) -> None:
        self._processes = processes
        self._port = port
        self._stop_timeout_s = stop_timeout_s
        self._reboot_at = None if reboot_s is None else time.monotonic() + reboot_s

    @property
    def address(self) -> int:
        """The port."""
        return self._port

    @property
    def is_running(self) -> bool:
        """Whether the game, or what starts it, lives."""
        return self._processes.is_running

    @property
    def is_due(self) -> bool:
        """Whether it has run so long that it should be started anew: its memory grows."""
        return self._reboot_at is not None and time.monotonic() >= self._reboot_at

    def stop(self) -> None:
        """End it, and nothing else."""
        self._processes.stop(timeout_s=self._stop_timeout_s)


@dataclass(frozen=True)
class GameLauncher:
    """Starts games by a command line in which ``{port}`` and ``{instance}`` are filled in.

    Args:
        command: as it is typed; quotes as the system's shell has them.
        folder: to run it in.
        variables: further names in the command, such as ``{"profile": "default"}``.
        environment: further variables of the environment, such as ``WINEPREFIX``.
        start_timeout_s: until the plugin listens: the game starts, and its console runs the start command.
        reboot_s: after which a game is started anew between two episodes; the seed system has 12 hours.
        stop_timeout_s: that a game has to end by itself; and that a port is waited for which is still taken.

    Examples:
        >>> GameLauncher('wine TMLoader.exe /configstring="set custom_port {port}"').words(0, 8478)
        ['wine', 'TMLoader.exe', '/configstring=set custom_port 8478']
    """

    command: str
    folder: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 120.0
    reboot_s: float | None = 43200.0
    stop_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        names = {name for _, name, _, _ in string.Formatter().parse(self.command) if name is not None}
        known = {*KNOWN, *self.variables}
        if "port" not in names:
            raise ValueError(f"command={self.command!r}: no {{port}} in it; the plugin must be told where to listen")
        if names - known:
            raise ValueError(
                f"command={self.command!r}: {{{sorted(names - known)[0]}}} is unknown; there are "
                f"{', '.join(f'{{{name}}}' for name in sorted(known))}"
            )
        for name, value in (
            ("start_timeout_s", self.start_timeout_s),
            ("reboot_s", self.reboot_s),
            ("stop_timeout_s", self.stop_timeout_s),
        ):
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value}: must be positive")
        if self.folder is not None and not Path(self.folder).is_dir():
            raise ValueError(f"folder={self.folder!r}: there is no such folder")

    def line(self, instance: int, port: int) -> str:
        """The command line of one instance."""
        return self.command.format(port=port, instance=instance, **self.variables)

    def words(self, instance: int, port: int) -> list[str]:
        """The same, program and arguments apart."""
        return shlex.split(self.line(instance, port))

    def launch(self, instance: int, *, address: int | str) -> RunningGame:
        """Start one, and wait until its plugin listens."""
        if not isinstance(address, int):
            raise GameError(f"address={address!r}: a port is wanted; games with TMInterface 1.x are started by hand")
        port = address or free_port()
        end = time.monotonic() + self.stop_timeout_s
        while is_port_taken(port) and time.monotonic() < end:  # a game of ours may be ending
            time.sleep(_POLL_S)
        if is_port_taken(port):
            raise GameError(
                f"port {port} of game {instance} is taken: another game runs with it, or another program listens "
                "there. End that one, or choose other ports with game.first_address"
            )
        line = self.line(instance, port)
        try:
            processes = OwnedProcesses(
                line if sys.platform == "win32" else shlex.split(line),
                folder=None if self.folder is None else Path(self.folder),
                environment=self.environment,
            )
        except (OSError, ValueError) as error:
            raise GameError(f"game {instance} could not be started: {error}. The command was: {line}") from error
        try:
            self._wait(processes, port, instance, line)
        except BaseException:
            processes.stop(timeout_s=self.stop_timeout_s)
            raise
        _LOG.warning(FOCUS_HINT, instance, port)
        return RunningGame(processes, port=port, reboot_s=self.reboot_s, stop_timeout_s=self.stop_timeout_s)

    def _wait(self, processes: OwnedProcesses, port: int, instance: int, line: str) -> None:
        end = time.monotonic() + self.start_timeout_s
        while not is_port_taken(port):
            if not processes.is_running:
                raise GameGone(
                    f"game {instance} ended at once, with code {processes.exit_code}: {processes.words or 'no word'}. "
                    f"The command was: {line}"
                )
            if time.monotonic() >= end:
                raise GameTimeout(
                    f"game {instance} runs, but nobody listens at port {port} after {self.start_timeout_s:g} s. Is the "
                    "link plugin in Documents/TMInterface/Plugins (scripts/install_plugin.py)? Does the game wait for "
                    f"a login? It said: {processes.words or 'nothing'}. The command was: {line}"
                )
            time.sleep(_POLL_S)
