"""Owns a command and everything that it starts: finds these processes later, and ends them and nothing else.

A game's loader starts the game and exits, so the game is no child of this process. On Linux everything started here
carries a secret token in its environment. A process is signalled through a handle that is opened before its token is
read, so no other process is hit if the system reuses a process number. On Windows the processes are members of a job
object, elsewhere of the command's process group. They end with the process that started them, even if it is killed: on
Windows through the job, elsewhere through a small process that watches it (``watchdog``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from tm_torchrl.game.instances.windows_job import WindowsJob

TOKEN = "TM_TORCHRL_LAUNCHED"  # environment variable that holds the token
POLL_S = 0.05
WATCHDOG_TIMEOUT_S = 3.0  # how long the watchdog may take to exit
_PROC = Path("/proc")


class OwnedProcesses:
    """A running command, and what it has started.

    Args:
        command: Program and arguments, or a whole command line on Windows.
        folder: Folder to run in.
        environment: Further environment variables.

    Examples:
        >>> owned = OwnedProcesses([sys.executable, "-c", "import time; time.sleep(60)"])
        >>> owned.is_running, owned.stop(timeout_s=5.0), owned.is_running
        (True, None, False)
    """

    def __init__(
        self, command: Sequence[str] | str, *, folder: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._token = secrets.token_hex(16)
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  shown if the command fails
        self._job = WindowsJob() if sys.platform == "win32" else None
        try:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environment or {}), TOKEN: self._token},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=sys.platform != "win32",  # Ctrl-C is for the trainer, which then ends its games
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except BaseException:
            self._output.close()
            raise
        self._watchdog: subprocess.Popen[bytes] | None = None
        if self._job is not None:
            self._job.add(self._process)
        else:
            try:
                self._watchdog = _start_watchdog(self._token, self._process.pid)
            except BaseException:
                self.stop()
                raise

    @property
    def exit_code(self) -> int | None:
        """Exit code of the command itself; ``None`` while it is running."""
        return self._process.poll()

    @property
    def is_running(self) -> bool:
        """Whether the command or anything that it started is running."""
        if self._process.poll() is None:
            return True
        if self._job is not None:
            return self._job.num_running > 0
        return _is_any_running(self._token, self._process.pid)

    @property
    def output(self) -> str:
        """The last 2000 bytes of the processes' output."""
        with contextlib.suppress(OSError, ValueError):
            size = self._output.seek(0, os.SEEK_END)
            self._output.seek(max(0, size - 2000))
            return self._output.read().decode(errors="replace").strip()
        return ""

    def stop(self, *, timeout_s: float = 5.0) -> None:
        """Ask all processes to end, and kill those that have not ended in time; may be called twice."""
        if self._job is not None:
            self._job.end()
            self._job = None
        else:
            _end(self._token, self._process.pid, timeout_s=timeout_s, is_running=lambda: self.is_running)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        end = time.monotonic() + 1.0
        while self.is_running and time.monotonic() < end:
            time.sleep(POLL_S)
        self._output.close()
        self._dismiss_watchdog()

    def _dismiss_watchdog(self) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None and watchdog.stdin is not None:
            with contextlib.suppress(OSError):
                watchdog.stdin.write(b".")
                watchdog.stdin.close()
            try:
                watchdog.wait(WATCHDOG_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                watchdog.kill()
                watchdog.wait()


def end_processes(token: str, *, group: int, timeout_s: float = 5.0) -> None:
    """Ask all processes that carry a token to end, and kill those that have not ended in time.

    Args:
        token: The token.
        group: Process group of the command, which is used where the system does not show environments.
        timeout_s: How long they may take to end by themselves.
    """
    _end(token, group, timeout_s=timeout_s, is_running=lambda: _is_any_running(token, group))


def _start_watchdog(token: str, group: int) -> subprocess.Popen[bytes]:
    """A process that ends what carries the token if this process dies."""
    root = str(Path(__file__).resolve().parents[3])  # so that it runs from a checkout that is not installed
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    watchdog = subprocess.Popen(
        [sys.executable, "-m", "tm_torchrl.game.instances.watchdog"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # so that a signal to the trainer's process group does not end it, too
    )
    assert watchdog.stdin is not None
    watchdog.stdin.write(f"{token} {group}\n".encode())
    watchdog.stdin.flush()
    return watchdog


def _end(token: str, group: int, *, timeout_s: float, is_running: Callable[[], bool]) -> None:
    _signal(token, signal.SIGTERM, group=group)
    end = time.monotonic() + timeout_s
    while is_running() and time.monotonic() < end:
        time.sleep(POLL_S)
    if is_running():
        _signal(token, getattr(signal, "SIGKILL", signal.SIGTERM), group=group)


def _is_any_running(token: str, group: int) -> bool:
    return any(True for _ in _carriers(token)) if _PROC.is_dir() else _has_group(group)


def _carriers(token: str) -> Iterator[int]:
    """Numbers of the running processes that carry the token."""
    assignment = f"{TOKEN}={token}".encode()
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and assignment in _environment_of(entry):
            yield int(entry.name)


def _signal(token: str, number: int, *, group: int) -> None:
    if sys.platform != "win32":
        if not _PROC.is_dir():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
            return
        for pid in list(_carriers(token)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                handle = os.pidfd_open(pid)
                try:
                    # The number may be another process's by now; the handle stays with one process.
                    if f"{TOKEN}={token}".encode() in _environment_of(_PROC / str(pid)):
                        signal.pidfd_send_signal(handle, number)
                finally:
                    os.close(handle)


def _environment_of(entry: Path) -> list[bytes]:
    """Environment of a running process; empty if it has ended or may not be read."""
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _has_group(pid: int) -> bool:
    """Whether the process group exists."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError):
            with contextlib.suppress(PermissionError):
                os.killpg(pid, 0)
            return True
    return False
