"""The page of one run in a process of its own, which ends with the process that started it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from tm_torchrl.collectors.processes import (
    ending_signals_blocked,
    ignore_ending_signals,
    main_module_left_out,
    start_server,
)
from tm_torchrl.live.api import DRIVES, Api
from tm_torchrl.live.runs import Runs
from tm_torchrl.live.server import PageServer

NICENESS = 5  # training goes first
STOP_TIMEOUT_S = 5.0


class PageProcess:
    """Serves the page of a run until it is closed, or until this process has ended.

    Args:
        run: The run folder.
        port: The port; 0 for a free one.
    """

    def __init__(self, run: Path, *, port: int = 0) -> None:
        start_server()
        self._connection, theirs = multiprocessing.Pipe()
        method = multiprocessing.get_start_method(allow_none=True)
        context: Any = multiprocessing.get_context("spawn" if method in (None, "fork") else method)
        self._process = context.Process(target=_serve, args=(theirs, run, port), daemon=True)
        with ending_signals_blocked(), main_module_left_out():
            self._process.start()
        theirs.close()

    def address(self) -> str | None:
        """The address of the page, which is told once; ``None`` until it is served.

        Raises ``OSError`` if it cannot be served.
        """
        if not self._connection.poll(0):
            if self._process.is_alive() or self._connection.poll(0):
                return None
            raise OSError(f"its process ended with exit code {self._process.exitcode}")
        try:
            address, problem = self._connection.recv()
        except EOFError:
            self._process.join(STOP_TIMEOUT_S)
            raise OSError(f"its process ended with exit code {self._process.exitcode}") from None
        if problem:
            raise OSError(problem)
        found: str = address
        return found

    def close(self) -> None:
        """End the process, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.join(STOP_TIMEOUT_S)


def _serve(connection: Connection, run: Path, port: int) -> None:
    """Send the address, or why there is none, and serve until the other end of the connection is closed."""
    ignore_ending_signals()
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICENESS)
    torch.set_num_threads(1)
    try:
        server = PageServer(Api(Runs([run]), drives=DRIVES).routes(), port=port)
    except Exception as error:  # whatever it is, training goes on
        with contextlib.suppress(OSError):  # training has ended
            connection.send(("", f"{type(error).__name__}: {error}"))
        return
    Thread(target=server.serve_forever, daemon=True).start()
    with contextlib.suppress(OSError, EOFError):  # the same
        connection.send((server.address, ""))
        connection.recv()
