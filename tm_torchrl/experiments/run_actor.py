"""What keeps the process of one run on a node of a Ray cluster, and the files of a run as bytes; without torch."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tm_torchrl.experiments.run_process import RESULT, RUN, STOPPED, RunProcess, count_kills
from tm_torchrl.record.folder_claim import is_claimed

FREE_TIMEOUT_S = 180.0  # for the process of a lost actor to save and end; network file systems keep locks that long
Judge = Callable[[Path], object]


class RunActor:
    """Keeps the process of one run, on its node."""

    def __init__(self) -> None:
        self._process: RunProcess | None = None
        self._is_stopped = False
        self._lock = threading.Lock()

    def reaches(self, mark: str, text: str) -> bool:
        """Whether this node can read a file of the starter's.

        Args:
            mark: Path of the file.
            text: What the file says; another machine may have its own file of this name.
        """
        with contextlib.suppress(OSError):
            return Path(mark).read_text(encoding="utf-8") == text
        return False

    def work(self, folder: str, files: bytes, arguments: Sequence[str] | None, judge: Judge | None) -> Any:
        """Run to the end; the exit status, and the files of a folder that the starter does not reach.

        Args:
            folder: Folder of the run, if this node reaches it.
            files: The folder's files, if it does not.
            arguments: Of Python, instead of those that train.
            judge: Called with the folder of a finished run.
        """
        if not files:
            return self._run(Path(folder), arguments, judge), b""
        with tempfile.TemporaryDirectory(prefix="tm_torchrl_", dir=session_folder()) as name:
            unpack(files, Path(name))
            status = self._run(Path(name), arguments, judge)
            if status == STOPPED:
                count_kills(Path(name))  # its replay stays behind, as that of a killed one
            return status, pack(Path(name))

    def stop(self) -> None:
        """Let the run save and end."""
        with self._lock:
            self._is_stopped = True
        if self._process is not None:
            self._process.stop()

    def _run(self, folder: Path, arguments: Sequence[str] | None, judge: Judge | None) -> int:
        end = time.monotonic() + FREE_TIMEOUT_S
        while is_claimed(folder / RUN) and time.monotonic() < end and not self._is_stopped:
            time.sleep(0.5)  # the process of an actor that was lost saves now
        with self._lock:
            if self._is_stopped:
                return STOPPED
            self._process = RunProcess(folder, command=None if arguments is None else [sys.executable, *arguments])
        while (status := self._process.poll()) is None:
            time.sleep(0.2)
        if status == 0 and judge is not None:
            with contextlib.suppress(Exception):  # the starter judges again, and reports it
                judge(folder / RUN)
        return status


def session_folder() -> Path | None:
    """Ray's folder on this node, which it removes some day; ``None`` for the system's."""
    import ray

    context = ray.get_runtime_context()
    folder = Path(context.get_temp_dir(), context.get_session_name())
    return folder if folder.is_dir() else None


def pack(folder: Path) -> bytes:
    """The files of a run's folder without its replay; the result comes last.

    Args:
        folder: Folder of a run.
    """
    replay = folder / RUN / "replay"
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_relative_to(replay)]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(paths, key=lambda path: path.name == RESULT):
            archive.write(path, path.relative_to(folder))
    return data.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Replace what a folder has by packed files; the result appears when the others are complete.

    Args:
        data: From ``pack``.
        folder: Folder of a run; files of other names stay.
    """
    with tempfile.TemporaryDirectory(prefix="received_", dir=folder) as partial:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(partial)  # never outside
        for path in sorted(Path(partial).iterdir(), key=lambda path: path.name == RESULT):
            if (folder / path.name).is_dir():
                shutil.rmtree(folder / path.name)
            path.replace(folder / path.name)
