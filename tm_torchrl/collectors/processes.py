"""How worker processes start: without the user's main module; on Linux forked from one that has imported everything."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from torch import nn

ENDING_SIGNALS = frozenset(  # sent to a whole process group by Ctrl-C, a supervisor, or a terminal that closes
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__
)
IMPORTED = ("torchrl.collectors", "tm_torchrl.collectors.worker_env", "tm_torchrl.tasks.trackmania")
OPEN_FILES = 256  # of a process with a few workers; systems allow 1,024 or more unless told otherwise

_lock = threading.Lock()
_num_starting = 0
_left_out: dict[str, Any] = {}


def start_server() -> None:
    """Start the process that workers are forked from, so that it imports while this process does.

    Each worker that is spawned imports torch and TorchRL anew, which takes seconds. Where the program has chosen a
    start method, or the system is not Linux, nothing happens.
    """
    if sys.platform != "linux" or multiprocessing.get_start_method(allow_none=True) not in (None, "forkserver"):
        return
    from multiprocessing.forkserver import ensure_running

    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(list(IMPORTED))
    with ending_signals_blocked():
        ensure_running()


def background_process(
    target: Callable[..., None], *arguments: Any, policy: nn.Module | None = None
) -> tuple[BaseProcess, Connection]:
    """Start a process that ends with this one; returns it and the connection, which is its first argument.

    Args:
        target: Runs in the process.
        arguments: Are sent to it.
        policy: Is among the arguments; ``None`` if none is.
    """
    start_server()
    ours, theirs = multiprocessing.Pipe()
    method = multiprocessing.get_start_method(allow_none=True)
    context: Any = multiprocessing.get_context("spawn" if method in (None, "fork") else method)
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    with ending_signals_blocked(), main_module_left_out(policy):
        process.start()
    theirs.close()
    return process, ours


@contextmanager
def ending_signals_blocked() -> Iterator[None]:
    """Let processes that start meanwhile inherit blocked signals, so that Ctrl-C spares them until they are set up."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)  # again: it has unblocked some
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_ending_signals() -> None:
    """Leave Ctrl-C and SIGTERM to the trainer, in a process that started with blocked signals."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


@contextmanager
def main_module_left_out(policy: nn.Module | None = None) -> Iterator[None]:
    """Let processes that start meanwhile not import the main module again.

    ``multiprocessing`` imports it in each process, so a script that trains without ``if __name__ == "__main__"`` would
    train again in each worker. Workers need it only if the policy's classes are defined there; such scripts need the
    usual guard.

    Args:
        policy: Is sent to the processes; ``None`` if none is.
    """
    global _num_starting
    if policy is not None and any(type(module).__module__ == "__main__" for module in policy.modules()):
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


def require_open_files(number: int = OPEN_FILES) -> None:
    """Raise this process's limit of open files to what workers need, or a ``ValueError`` where the system refuses.

    Args:
        number: Files that must be allowed.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= number:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, max(number, hard) if hard >= 0 else hard))
    except (OSError, ValueError):
        raise ValueError(
            f"kind: worker processes need {number} open files, but only {soft} are allowed; raise the limit with "
            f"`ulimit -n {number}`, or use collector=single"
        ) from None


def remedy(failure: str) -> str:
    """What to do about a failure of workers that the system caused; empty for others.

    >>> remedy("OSError: [Errno 28] No space left on device")[:41]
    '. /dev/shm is full, through which workers'
    """
    if any(words in failure for words in ("No space left on device", "unable to allocate shared memory")):
        return (
            ". /dev/shm is full, through which workers send batches: enlarge it (in a container with --shm-size=1g), "
            "collect fewer frames per batch, or use collector=single"
        )
    if "Too many open files" in failure:
        return f". Raise the limit of open files with `ulimit -n {16 * OPEN_FILES}`, or use collector=single"
    return ""
