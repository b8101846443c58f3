"""Windows job objects: a job that is closed ends its members, so games end with the process that started them."""

from __future__ import annotations

import ctypes
import subprocess
from typing import Any

_KILL_ON_CLOSE = 0x2000  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
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
    _fields_ = (("times", ctypes.c_int64 * 4), ("counts", ctypes.c_uint32 * 4))  # counts[2]: members that are running


class WindowsJob:
    """A job without members."""

    def __init__(self) -> None:
        self._kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined, unused-ignore]
        self._kernel.CreateJobObjectW.restype = ctypes.c_void_p
        self._job: Any = ctypes.c_void_p(self._kernel.CreateJobObjectW(None, None))
        limits = _ExtendedLimits()
        limits.basic.flags = _KILL_ON_CLOSE
        if not self._kernel.SetInformationJobObject(
            self._job, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
        ):
            raise OSError(f"cannot create a job object: Windows error {_last_error()}")

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """Make a process a member; what it starts will be members, too. If that fails, the process is killed."""
        handle = ctypes.c_void_p(int(process._handle))  # type: ignore[attr-defined, unused-ignore]
        if not self._kernel.AssignProcessToJobObject(self._job, handle):
            process.kill()
            raise OSError(f"cannot add the game to a job object: Windows error {_last_error()}")

    @property
    def num_running(self) -> int:
        """Number of members that are running."""
        found = _Accounting()
        self._kernel.QueryInformationJobObject(self._job, _ACCOUNTING, ctypes.byref(found), ctypes.sizeof(found), None)
        return int(found.counts[2])

    def end(self) -> None:
        """End all members, and close the job."""
        self._kernel.TerminateJobObject(self._job, 1)
        self._kernel.CloseHandle(self._job)


def _last_error() -> int:
    return int(ctypes.get_last_error())  # type: ignore[attr-defined, unused-ignore]
