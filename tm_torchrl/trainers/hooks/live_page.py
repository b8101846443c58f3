"""The page of ``tm-torchrl live`` for a run while it trains."""

from __future__ import annotations

from collections.abc import Callable

from tm_torchrl.live.page_process import PageProcess
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.trainers.training import Hook, Training


class LivePage(Hook):
    """Serves the page of its run, in a process of its own; if that fails, training goes on without it.

    Args:
        port: The port; 0 for a free one.
        show: Shows the address, which holds the token of the page and is therefore kept in no file.
        log: Takes messages.
    """

    def __init__(self, *, port: int, show: Callable[[str], None], log: Callable[[str], None]) -> None:
        self.port, self.show, self.log = port, show, log
        self._process: PageProcess | None = None
        self._is_told = False

    def open(self, training: Training, run: RunFolder) -> None:
        """Start the process, which takes some seconds until it serves."""
        try:
            self._process = PageProcess(run.path, port=self.port)
        except (OSError, ValueError) as error:
            self._fail(error)

    def after_batch(self, training: Training) -> None:
        """Show the address once it is there."""
        if self._process is None or self._is_told:
            return
        try:
            address = self._process.address()
        except OSError as error:
            self._fail(error)
            return
        if address is not None:
            self._is_told = True
            self.show(f"live page: {address}")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _fail(self, error: Exception) -> None:
        self.log(f"live={self.port or 'true'}: there is no page of this run ({error}); training goes on")
        self.close()
