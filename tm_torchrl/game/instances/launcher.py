"""Starts the real game: the command of each instance, its port, its processes, and when it is due for a restart."""

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
    "game %d listens at port %d. If its car does not move, click once into its window (again after each map change). "
    "Do not minimise it: a minimised game draws nothing and accepts no connection"
)
BUILT_IN_VARIABLES = ("port", "instance")


class RunningGame:
    """A game that a ``GameLauncher`` has started.

    Args:
        processes: The command, and what it has started.
        port: Port at which the game listens.
        reboot_s: Time after which the game is due for a restart; ``None`` for never.
        stop_timeout_s: How long ``stop`` waits before it kills the game.
    """

    def __init__(
        self, processes: OwnedProcesses, *, port: int, reboot_s: float | None = None, stop_timeout_s: float = 5.0
    ) -> None:
        self._processes = processes
        self.address: int | str = port
        self._stop_timeout_s = stop_timeout_s
        self._reboot_at = None if reboot_s is None else time.monotonic() + reboot_s

    @property
    def is_running(self) -> bool:
        """Whether the game, or the command that starts it, is running."""
        return self._processes.is_running

    @property
    def is_due(self) -> bool:
        """Whether it has run so long that it should be restarted: its memory grows."""
        return self._reboot_at is not None and time.monotonic() >= self._reboot_at

    def stop(self) -> None:
        """End it, and nothing else."""
        self._processes.stop(timeout_s=self._stop_timeout_s)


@dataclass(frozen=True)
class GameLauncher:
    """Starts games by a command line in which ``{port}`` and ``{instance}`` are replaced.

    Args:
        command: The command as typed into a shell, with the shell's quotes.
        folder: Folder to run the command in.
        variables: Further names in the command and their values, such as ``{"profile": "default"}``.
        environment: Further environment variables, such as ``WINEPREFIX``.
        start_timeout_s: How long to wait until the plugin listens: the game starts, and its console runs the command.
        reboot_s: Time after which a game is restarted between two episodes; Linesight uses 12 hours.
        stop_timeout_s: How long a game may take to end by itself, and how long to wait for a port that is still taken.

    Examples:
        >>> GameLauncher('wine TMLoader.exe /configstring="set custom_port {port}"').arguments(0, 8478)
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
        parts = [(name, form, how) for _, name, form, how in string.Formatter().parse(self.command) if name is not None]
        names = {name for name, _, _ in parts}
        for name, form, how in parts:
            if form or how:  # {port:>99999999} would be a command of 100 MB
                raise ValueError(f"command={self.command!r}: {{{name}}} must have no format or conversion behind it")
        known = {*BUILT_IN_VARIABLES, *self.variables}
        if "port" not in names:
            raise ValueError(f"command={self.command!r}: must contain {{port}}, which tells the plugin where to listen")
        if names - known:
            raise ValueError(
                f"command={self.command!r}: {{{sorted(names - known)[0]}}} is unknown: must be one of "
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
            raise ValueError(f"folder={self.folder!r}: must be an existing folder")

    def line(self, instance: int, port: int) -> str:
        """The command line of one instance."""
        return self.command.format(port=port, instance=instance, **self.variables)

    def arguments(self, instance: int, port: int) -> list[str]:
        """The same, split into program and arguments."""
        return shlex.split(self.line(instance, port))

    def launch(self, instance: int, *, address: int | str) -> RunningGame:
        """Start a game, and wait until its plugin listens."""
        if not isinstance(address, int):
            raise GameError(f"address={address!r}: must be a port; start games with TMInterface 1.x by hand")
        port = address or free_port()
        end = time.monotonic() + self.stop_timeout_s
        while is_port_taken(port) and time.monotonic() < end:  # one of our games may be ending
            time.sleep(_POLL_S)
        if is_port_taken(port):
            raise GameError(
                f"port {port} of game {instance} is taken by another game or program: end it, or choose other ports "
                "with game.first_address"
            )
        line = self.line(instance, port)
        try:
            processes = OwnedProcesses(
                line if sys.platform == "win32" else self.arguments(instance, port),
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
                    f"game {instance} ended at once, with code {processes.exit_code}: "
                    f"{processes.output or 'no output'}. The command was: {line}"
                )
            if time.monotonic() >= end:
                raise GameTimeout(
                    f"game {instance} runs, but nothing listens at port {port} after {self.start_timeout_s:g} s. Is "
                    "the link plugin in Documents/TMInterface/Plugins (scripts/install_plugin.py)? Does the game wait "
                    f"for a login? Its output: {processes.output or 'none'}. The command was: {line}"
                )
            time.sleep(_POLL_S)
