"""Memory of this process: its size, the reuse of freed memory, and quick collections of garbage."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def resident_mb() -> float:
    """Resident memory in MB; the peak so far where only that is known, 0 where nothing is."""
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
    """Make the C library keep freed memory for the next tensor instead of returning it to the system.

    By default glibc maps new memory for each tensor of some hundred kB, and each page costs a fault at its first use:
    a fifth of the CPU time of an update with 256 samples (measured). Without glibc nothing happens.

    Args:
        largest_mb: Larger tensors, such as a replay, are still mapped separately.

    Returns:
        Whether the C library supports it.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # Windows, macOS, musl
        return False
    size = largest_mb * 2**20
    mapped = mallopt(mmap_threshold, size) or mallopt(mmap_threshold, 32 * 2**20)  # older versions allow 32 MB at most
    return bool(mapped and mallopt(trim_threshold, 2 * size))


@contextmanager
def quick_collections() -> Iterator[None]:
    """Let collections of garbage pass over all objects that are in use at the beginning.

    There are half a million of them, most of imported modules, so that a collection took half a second (measured).
    """
    is_ours = not gc.get_freeze_count()
    if is_ours:
        gc.collect()  # the memory of an earlier training must not wait for the end of this one
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()
