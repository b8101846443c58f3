"""Emulators in separate processes, which end with the process that started them."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tm_torchrl.game.errors import GameError, GameGone, GameTimeout
from tm_torchrl.game.instances.ports import is_port_taken
from tm_torchrl.game.tmi1.channel import remove_left_behind
from tm_torchrl.tracks import DEFAULT_TRACK

STOP_TIMEOUT_S = 3.0


class EmulatorProcess:
    """A running emulator.

    Args:
        arguments: Command-line arguments of ``python -m tm_torchrl.game.emulator``.
        start_timeout_s: How long to wait until it listens; on a machine's first start, kernels are compiled.
    """

    is_due = False  # unlike the game, an emulator does not slow down with time

    def __init__(self, arguments: Sequence[str], *, start_timeout_s: float = 120.0) -> None:
        root = str(Path(__file__).resolve().parents[3])  # so that it runs from a checkout that is not installed
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.address: int | str = 0  # its port, or its channel's name
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tm_torchrl.game.emulator", *arguments, "--until-stdin-ends"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the trainer, which then ends its emulators
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        try:
            line = self._first_line(start_timeout_s)
        except BaseException:
            self.stop()
            raise
        where = line.removeprefix("listening on ").strip()
        last = where.rpartition(":")[2]
        self.address = int(last) if last.isdigit() else where

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process is running."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if isinstance(self.address, str):  # a killed emulator cannot remove its channel
            remove_left_behind(self.address)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _first_line(self, timeout_s: float) -> str:
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        out = self._process.stdout
        assert out is not None
        threading.Thread(target=lambda: lines.put(out.readline()), daemon=True).start()
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=0.2).decode(errors="replace")
                if not line:
                    raise GameGone(
                        f"the emulator ended at once, with code {self._process.wait()}; see its message above"
                    )
                return line
        raise GameTimeout(f"the emulator did not listen within {timeout_s:g} s")


@dataclass(frozen=True)
class EmulatorLauncher:
    """Starts emulators on one track.

    Args:
        track: Built-in name or ``.npz`` file; ``None`` for the default track.
        protocol: 1 for TMInterface 1.x, 2 for 2.x.
        arguments: Further arguments of ``python -m tm_torchrl.game.emulator``.
        start_timeout_s: How long to wait until it listens.
    """

    track: str | None = None
    protocol: int = 2
    arguments: Sequence[str] = ()
    start_timeout_s: float = 120.0

    def launch(self, instance: int, *, address: int | str = 0) -> EmulatorProcess:
        """Start an emulator, and wait until it listens."""
        if isinstance(address, int) and address and is_port_taken(address):
            raise GameError(
                f"port {address} of emulator {instance} is taken by another training or program: end it, or choose "
                "other ports with game.first_address (0: any free ports)"
            )
        where = ["--port", str(address)] if isinstance(address, int) else ["--channel", address]
        track = str(self.track or DEFAULT_TRACK)
        return EmulatorProcess(
            ["--protocol", str(self.protocol), "--track", track, *where, *self.arguments],
            start_timeout_s=self.start_timeout_s,
        )
