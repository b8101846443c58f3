"""A command with everything that it starts: found again after it has ended, and nothing else ever ended.

A game's loader starts the game and goes, so the game is nobody's child. On Linux all that we start carry a secret word
in their environment, and a process is signalled through a handle that was taken before the word was read; so a number
that the system gave to another process meanwhile harms nobody. On Windows they are members of a job object. Elsewhere
they are the command's process group. They end with the process that started them, even if that is killed: on Windows
the job does it, elsewhere a small process that watches it (``guard``).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MARK = "TM_TORCHRL_LAUNCHED"
POLL_S = 0.05
GUARD_TIMEOUT_S = 3.0  # that the guard has to go home
_PROC = Path("/proc")


class OwnedProcesses:
    """A command that runs, and what it has started.

    Args:
        command: program and arguments; a text is taken by Windows as it is.
        folder: to run in.
        environment: further variables.

    Examples:
        >>> owned = OwnedProcesses([sys.executable, "-c", "import time; time.sleep(60)"])
        >>> owned.is_running, owned.stop(timeout_s=5.0), owned.is_running
        (True, None, False)
    """

    def __init__(
        self, command: Sequence[str] | str, *, folder: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._mark = secrets.token_hex(16)
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  what it says, to be shown if it fails
        self._job = _make_job() if sys.platform == "win32" else None
        try:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environment or {}), MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=subprocess.STDOUT,
                start_new_session=sys.platform != "win32",  # Ctrl-C is for the trainer, which ends its games itself
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except BaseException:
            self._words.close()
            raise
        self._guard: subprocess.Popen[bytes] | None = None
        if self._job is not None:
            _join_job(self._job, self._process)
        else:
            try:
                self._guard = _start_guard(self._mark, self._process.pid)
            except BaseException:
                self.stop()
                raise

    @property
    def exit_code(self) -> int | None:
        """Of the command itself; ``None`` while it runs."""
        return self._process.poll()

    @property
    def is_running(self) -> bool:
        """Whether the command or anything that it started lives."""
        if self._process.poll() is None:
            return True
        if self._job is not None:
            return _num_in_job(self._job) > 0
        if _PROC.is_dir():
            return any(True for _ in _marked(self._mark))
        return _has_group(self._process.pid)

    @property
    def words(self) -> str:
        """The last lines that they have said."""
        with contextlib.suppress(OSError, ValueError):
            size = self._words.seek(0, os.SEEK_END)
            self._words.seek(max(0, size - 2000))
            return self._words.read().decode(errors="replace").strip()
        return ""

    def stop(self, *, timeout_s: float = 5.0) -> None:
        """Ask all of them to end, and end those that have not within the time; may be called twice."""
        if self._job is not None:
            _end_job(self._job)
            self._job = None
        else:
            _signal(self._mark, signal.SIGTERM, group=self._process.pid)
            end = time.monotonic() + timeout_s
            while self.is_running and time.monotonic() < end:
                time.sleep(POLL_S)
            if self.is_running:
                _signal(self._mark, getattr(signal, "SIGKILL", signal.SIGTERM), group=self._process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        end = time.monotonic() + 1.0
        while self.is_running and time.monotonic() < end:
            time.sleep(POLL_S)
        self._words.close()
        self._dismiss_guard()

    def _dismiss_guard(self) -> None:
        """There is nothing left to be guarded."""
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            with contextlib.suppress(OSError):
                guard.stdin.write(b".")
                guard.stdin.close()
            try:
                guard.wait(GUARD_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                guard.kill()
                guard.wait()


def _start_guard(mark: str, group: int) -> subprocess.Popen[bytes]:
    """A process that ends what carries the word, when this one is gone."""
    home = str(Path(__file__).resolve().parents[3])  # so that it runs from a checkout that is not installed
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])}
    guard = subprocess.Popen(
        [sys.executable, "-m", "tm_torchrl.game.instances.guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # what ends the trainer's group spares it
    )
    assert guard.stdin is not None
    guard.stdin.write(f"{mark} {group}\n".encode())
    guard.stdin.flush()
    return guard


def end_marked(mark: str, *, group: int, timeout_s: float = 5.0) -> None:
    """Ask whatever carries a word to end, and end what has not within the time.

    Args:
        mark: the word.
        group: the process group of the command that it was given to.
        timeout_s: to end by themselves.
    """
    _signal(mark, signal.SIGTERM, group=group)
    end = time.monotonic() + timeout_s
    while _is_any_left(mark, group) and time.monotonic() < end:
        time.sleep(POLL_S)
    if _is_any_left(mark, group):
        _signal(mark, getattr(signal, "SIGKILL", signal.SIGTERM), group=group)


def _is_any_left(mark: str, group: int) -> bool:
    return any(True for _ in _marked(mark)) if _PROC.is_dir() else _has_group(group)


def _marked(mark: str) -> Iterator[int]:
    """Living processes that carry the word."""
    wanted = f"{MARK}={mark}".encode()
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and wanted in _environment_of(entry):
            yield int(entry.name)


def _signal(mark: str, number: int, *, group: int) -> None:
    if sys.platform != "win32":
        if not _PROC.is_dir():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
            return
        wanted = f"{MARK}={mark}".encode()
        for pid in list(_marked(mark)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                handle = os.pidfd_open(pid)
                try:
                    if wanted in _environment_of(_PROC / str(pid)):  # the handle is of the process that was meant
                        signal.pidfd_send_signal(handle, number)
                finally:
                    os.close(handle)


def _environment_of(entry: Path) -> list[bytes]:
    """Of a living process; empty where we may not look, or it has ended."""
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _has_group(pid: int) -> bool:
    """Whether a process group lives."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError):
            with contextlib.suppress(PermissionError):
                os.killpg(pid, 0)
            return True
    return False


# Windows. A job that is closed ends its members (JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE), so games end with the trainer.
_KILL_ON_CLOSE = 0x2000
_EXTENDED_LIMITS, _ACCOUNTING = 9, 1  # of SetInformationJobObject and QueryInformationJobObject


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("per_process_time", ctypes.c_int64),
        ("per_job_time", ctypes.c_int64),
        ("flags", ctypes.c_uint32),
        ("least_working_set", ctypes.c_size_t),
        ("most_working_set", ctypes.c_size_t),
        ("active_limit", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority", ctypes.c_uint32),
        ("scheduling", ctypes.c_uint32),
    )


class _ExtendedLimits(ctypes.Structure):
    _fields_ = (
        ("basic", _BasicLimits),
        ("io", ctypes.c_uint64 * 6),
        ("memory", ctypes.c_size_t * 4),
    )


class _Accounting(ctypes.Structure):
    _fields_ = (("times", ctypes.c_int64 * 4), ("counts", ctypes.c_uint32 * 4))  # counts[2]: members that live


def _kernel() -> Any:
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined, unused-ignore]
    kernel.CreateJobObjectW.restype = ctypes.c_void_p
    return kernel


def _make_job() -> Any:
    kernel = _kernel()
    job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
    limits = _ExtendedLimits()
    limits.basic.flags = _KILL_ON_CLOSE
    if not kernel.SetInformationJobObject(job, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)):
        raise OSError(f"no job object could be made: Windows says {ctypes.get_last_error()}")  # type: ignore[attr-defined, unused-ignore]
    return job


def _join_job(job: Any, process: subprocess.Popen[bytes]) -> None:
    handle = ctypes.c_void_p(int(process._handle))  # type: ignore[attr-defined, unused-ignore]
    if not _kernel().AssignProcessToJobObject(job, handle):
        process.kill()
        raise OSError(f"the game could not be put into a job: Windows says {ctypes.get_last_error()}")  # type: ignore[attr-defined, unused-ignore]


def _num_in_job(job: Any) -> int:
    found = _Accounting()
    _kernel().QueryInformationJobObject(job, _ACCOUNTING, ctypes.byref(found), ctypes.sizeof(found), None)
    return int(found.counts[2])


def _end_job(job: Any) -> None:
    kernel = _kernel()
    kernel.TerminateJobObject(job, 1)
    kernel.CloseHandle(job)
