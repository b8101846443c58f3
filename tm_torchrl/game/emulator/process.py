"""Emulators in processes of their own, which end with the process that started them."""

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
        arguments: of ``python -m tm_torchrl.game.emulator``.
        start_timeout_s: until it listens; kernels are built on a machine's first start.
    """

    def __init__(self, arguments: Sequence[str], *, start_timeout_s: float = 120.0) -> None:
        home = str(Path(__file__).resolve().parents[3])  # so that it runs from a checkout that is not installed
        paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._address: int | str = 0
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tm_torchrl.game.emulator", *arguments, "--until-stdin-ends"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the training, which saves and evaluates before it ends
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        try:
            line = self._first_line(start_timeout_s)
        except BaseException:
            self.stop()
            raise
        where = line.removeprefix("listening on ").strip()
        last = where.rpartition(":")[2]
        self._address = int(last) if last.isdigit() else where

    @property
    def address(self) -> int | str:
        """Port, or channel."""
        return self._address

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process.poll() is None

    @property
    def is_due(self) -> bool:
        """Emulators do not grow slower with time."""
        return False

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
        if isinstance(self._address, str):  # it could not remove it itself if it was killed
            remove_left_behind(self._address)
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
                    raise GameGone(f"the emulator ended at once, with code {self._process.wait()}; its words are above")
                return line
        raise GameTimeout(f"the emulator did not begin to listen within {timeout_s:g} s")


@dataclass(frozen=True)
class EmulatorLauncher:
    """Starts emulators on one track.

    Args:
        track: a built-in name or a ``.npz`` file; the default track if nothing is given.
        protocol: 1 or 2.
        arguments: further ones of ``python -m tm_torchrl.game.emulator``.
        start_timeout_s: until it listens.
    """

    track: str | None = None
    protocol: int = 2
    arguments: Sequence[str] = ()
    start_timeout_s: float = 120.0

    def launch(self, instance: int, *, address: int | str = 0) -> EmulatorProcess:
        """Start one."""
        if isinstance(address, int) and address and is_port_taken(address):
            raise GameError(
                f"port {address} of emulator {instance} is taken: another training runs with it, or another program "
                "listens there. End that one, or choose other ports with game.first_address (0: any that are free)"
            )
        where = ["--port", str(address)] if isinstance(address, int) else ["--channel", address]
        track = str(self.track or DEFAULT_TRACK)
        return EmulatorProcess(
            ["--protocol", str(self.protocol), "--track", track, *where, *self.arguments],
            start_timeout_s=self.start_timeout_s,
        )
