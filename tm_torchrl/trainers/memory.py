"""How much memory this process holds."""

from __future__ import annotations

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
