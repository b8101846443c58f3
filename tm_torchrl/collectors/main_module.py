"""Processes that start without the user's main module."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_lock = threading.Lock()
_num_starting = 0
_left_out: dict[str, Any] = {}


@contextmanager
def main_module_left_out(policy: nn.Module) -> Iterator[None]:
    """Let processes that start meanwhile not import the main module again.

    ``multiprocessing`` imports it in each process, so a script that trains without ``if __name__ == "__main__"`` would
    train again in each worker. Workers need it only if the policy's classes are defined there; such scripts need the
    usual guard.

    Args:
        policy: Is sent to the processes.
    """
    global _num_starting
    if any(type(module).__module__ == "__main__" for module in policy.modules()):
        yield
        return
    main = sys.modules["__main__"].__dict__
    with _lock:
        _num_starting += 1
        if _num_starting == 1:
            _left_out.update({name: main.pop(name) for name in ("__spec__", "__file__") if name in main})
            main["__spec__"] = None
    try:
        yield
    finally:
        with _lock:
            _num_starting -= 1
            if _num_starting == 0:
                main.update(_left_out)
                _left_out.clear()
