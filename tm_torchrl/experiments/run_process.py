"""A training run in its own process, in a folder with its settings, log and result.

The folder holds ``settings.yaml``, ``log.txt``, the run folder ``run`` and, when the run is done, ``result.json``. The
process is ``python -m tm_torchrl.experiments.run_process FOLDER``; it saves and ends when its starter has ended.
"""

from __future__ import annotations

import _thread
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tm_torchrl.data.saving.atomic_files import replacing
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.tree import differences

SETTINGS, RESULT, LOG, RUN = "settings.yaml", "result.json", "log.txt", "run"
UNDER_WAY = "under_way.json"  # there while a process works, and afterwards if it was killed
STOPPED = 3  # exit status of a run that was interrupted and can go on


def prepare(folder: Path, settings: Mapping[str, Any]) -> str:
    """Write the settings of a run into its folder; returns why the folder cannot be used, or an empty text.

    Args:
        folder: Folder of this run alone; made if it does not exist.
        settings: Settings of the run.
    """
    path = folder / SETTINGS
    if path.exists():
        changed = differences(dict(settings), yaml.safe_load(path.read_text(encoding="utf-8")))
        if changed:
            return f"{folder} has other settings ({changed[0]}): remove it, or give another --out"
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))
    return ""


def is_done(folder: Path) -> bool:
    """Whether the run of a folder is done."""
    return (folder / RESULT).exists()


def failure(folder: Path, status: int) -> str:
    """Why a process left no result; an empty text if it left one."""
    if status == 0 and is_done(folder):
        return ""
    return f"exit status {status}: {last_line(folder / LOG)} ({folder / LOG})"


class RunProcess:
    """A process that works in a folder; its output goes to the folder's log.

    Args:
        folder: Folder that ``prepare`` has written settings into.
        command: Command to run; the folder is its last argument. ``None`` trains.
    """

    def __init__(self, folder: Path, *, command: Sequence[str] | None = None) -> None:
        home = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        command = command or [sys.executable, "-m", "tm_torchrl.experiments.run_process"]
        self.folder = folder
        with open(folder / LOG, "ab") as log:
            self._process = subprocess.Popen(
                [*command, str(folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": paths},
                start_new_session=True,  # a terminal's Ctrl-C is for the starter, whose stop() lets it save
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
            )

    def poll(self) -> int | None:
        """The exit status, negative for a signal; ``None`` while it runs."""
        return self._process.poll()

    def stop(self) -> int:
        """Let the process save and end; returns its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait()


def folder_name(name: str) -> str:
    """A name for a folder that every file system accepts.

    >>> folder_name("exp_a+replay.alpha=0.4")
    'exp_a_replay.alpha=0.4'
    """
    return re.sub(r"[^\w.=-]+", "_", name)


def last_line(path: Path) -> str:
    """The last line of a log that is not empty."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was logged")


def main() -> None:
    """Train with the settings of a folder, or go on, and write the result; stop when the starter has ended."""
    stop_with_starter()
    raise SystemExit(run_in(Path(sys.argv[1])))


def run_in(folder: Path) -> int:
    """Train in a folder; returns an exit status.

    Args:
        folder: Folder with ``settings.yaml``; a run that has a checkpoint there goes on from it.
    """
    from tm_torchrl.trainers.run import train
    from tm_torchrl.trainers.training import INTERRUPTED

    settings: dict[str, Any] = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
    run, num_kills = folder / RUN, count_kills(folder)
    if any((run / "checkpoints").glob("frames_*")):
        settings["resume"] = str(run)
    elif run.exists():  # it ended before its first checkpoint
        shutil.rmtree(run)
    try:
        summary = train(settings, folder=run, is_quiet=True)
    except ConfigError as error:
        note_kills(folder, num_kills, is_under_way=False)
        sys.stderr.write(f"error: {error}\n")
        return 2
    note_kills(folder, num_kills, is_under_way=False)
    sys.stdout.write(f"{summary}\n")
    if summary.reason == INTERRUPTED:
        return STOPPED
    parameters = sum(parameter.numel() for parameter in summary.agent.actor.parameters())
    facts = {"frames": summary.frames, "seconds": summary.seconds, "reason": summary.reason}
    write_result(folder, {**facts, "parameters": parameters, "num_kills": num_kills})
    return 0


def count_kills(folder: Path) -> int:
    """Note that work begins in a folder; returns how often it was killed before, which loses replay data."""
    try:
        before = json.loads((folder / UNDER_WAY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {"num_kills": 0, "is_under_way": False}
    num_kills = int(before["num_kills"]) + bool(before["is_under_way"])
    note_kills(folder, num_kills, is_under_way=True)
    return num_kills


def note_kills(folder: Path, num_kills: int, *, is_under_way: bool) -> None:
    """Write the number of kills for the next process, and whether this one still works."""
    note = {"num_kills": num_kills, "is_under_way": is_under_way}
    _write(folder / UNDER_WAY, json.dumps(note) + "\n")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the result, which marks the folder as done."""
    _write(folder / RESULT, json.dumps(dict(result)) + "\n")


def _write(path: Path, text: str) -> None:
    """Write all of it or, when killed, nothing."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def stop_with_starter() -> None:
    """Let SIGTERM end this process in order, and so too the end of its standard input, which its starter holds."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    while os.read(0, 1024):  # returns nothing once the starter has ended; sys.stdin would lock at exit
        pass
    _thread.interrupt_main(signal.SIGTERM)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(STOPPED)


if __name__ == "__main__":
    main()
