"""Memory of this process: how much it holds, and what becomes of freed memory."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def resident_mb() -> float:
    """Resident memory in MB; the peak so far where the system does not tell the present value; 0 if it tells none."""
    status = Path("/proc/self/statm")
    if status.exists():
        import os

        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / 1e6 if sys.platform == "darwin" else peak / 1e3)


def keep_freed_memory(largest_mb: int = 256) -> bool:
    """Let the C library keep what is freed for the next tensor instead of giving it back to the system.

    By default glibc maps each tensor of some hundred kB anew, and every page of it costs a fault on its first touch: a
    fifth of the CPU time of an update with 256 samples (measured). Nothing happens where there is no glibc.

    Args:
        largest_mb: larger tensors, such as a replay, are still mapped by themselves.

    Returns:
        Whether the C library takes part.
    """
    trim_threshold, mmap_threshold = -1, -3  # the numbers of M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # Windows, macOS, musl
        return False
    size = largest_mb * 2**20
    mapped = mallopt(mmap_threshold, size) or mallopt(mmap_threshold, 32 * 2**20)  # 32 MB: the most of older ones
    return bool(mapped and mallopt(trim_threshold, 2 * size))
