"""A training run in a process of its own, in a folder that says what is asked for and how far it is.

The folder holds ``settings.yaml``, ``log.txt``, the run folder ``run`` and, when the run is done, ``result.json``. The
process is ``python -m tm_torchrl.experiments.run_process FOLDER``; it saves and ends when whoever started it is gone.
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

from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.tree import differences

SETTINGS, RESULT, LOG, RUN = "settings.yaml", "result.json", "log.txt", "run"
UNDER_WAY = "under_way.json"  # there while a process works, and afterwards if it was killed
STOPPED = 3  # exit status of a run that was interrupted and can go on


def prepare(folder: Path, settings: Mapping[str, Any]) -> str:
    """Write the settings; returns why the folder cannot be used, or an empty text.

    Args:
        folder: of this run alone; made if need be.
        settings: of the run.
    """
    path = folder / SETTINGS
    if path.exists():
        changed = differences(dict(settings), yaml.safe_load(path.read_text(encoding="utf-8")))
        if changed:
            return f"{folder} has other settings ({changed[0]}): remove it, or give another --out"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return ""


def is_done(folder: Path) -> bool:
    """Whether the run of a folder has come to its end."""
    return (folder / RESULT).exists()


def failure(folder: Path, status: int) -> str:
    """Why a process that has ended left no result; an empty text if it did.

    Args:
        folder: of the run.
        status: that the process ended with.
    """
    if status == 0 and is_done(folder):
        return ""
    return f"exit status {status}: {last_line(folder / LOG)} ({folder / LOG})"


class OwnProcess:
    """A process that works in a folder; its output goes to the folder's log.

    Args:
        folder: with settings.
        command: to run, the folder is added to it; ``None`` for a training.
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

    def wait(self) -> int:
        """The exit status, when there is one; if the waiting is interrupted the process is stopped."""
        try:
            return self._process.wait()
        finally:
            self.stop()

    def stop(self) -> int:
        """Let it save and end; returns its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait()


def start_process(folder: Path) -> int:
    """Run what a folder's settings say in a new process; returns its exit status, negative for a signal."""
    return OwnProcess(folder).wait()


def folder_name(name: str) -> str:
    """A name that every file system takes.

    >>> folder_name("exp_a+replay.alpha=0.4")
    'exp_a_replay.alpha=0.4'
    """
    return re.sub(r"[^\w.=-]+", "_", name)


def last_line(path: Path) -> str:
    """Of a log; empty if there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was logged")


def main() -> None:
    """Train as the folder's settings say, or go on, and leave the result there; stop when the starter is gone."""
    stop_with_starter()
    raise SystemExit(run_in(Path(sys.argv[1])))


def run_in(folder: Path) -> int:
    """Train in a folder; returns an exit status.

    Args:
        folder: with ``settings.yaml``; the run folder lies in it, and a run with a checkpoint goes on from there.
    """
    from tm_torchrl.trainers.loop import INTERRUPTED
    from tm_torchrl.trainers.run import train
    from tm_torchrl.trainers.summary import summary_text

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
    sys.stdout.write(summary_text(summary) + "\n")
    if summary.reason == INTERRUPTED:
        return STOPPED
    parameters = sum(parameter.numel() for parameter in summary.agent.actor.parameters())
    facts = {"frames": summary.frames, "seconds": summary.seconds, "reason": summary.reason}
    write_result(folder, {**facts, "parameters": parameters, "num_kills": num_kills})
    return 0


def count_kills(folder: Path) -> int:
    """How often the work in a folder was ended without a chance to save, so that replay was lost; work begins now.

    Args:
        folder: of the run.
    """
    try:
        before = json.loads((folder / UNDER_WAY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {"num_kills": 0, "is_under_way": False}
    num_kills = int(before["num_kills"]) + bool(before["is_under_way"])
    note_kills(folder, num_kills, is_under_way=True)
    return num_kills


def note_kills(folder: Path, num_kills: int, *, is_under_way: bool) -> None:
    """Write it down, for the next process."""
    note = {"num_kills": num_kills, "is_under_way": is_under_way}
    (folder / UNDER_WAY).write_text(json.dumps(note) + "\n", encoding="utf-8")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """What makes a folder done; whole or not at all."""
    partial = folder / f"{RESULT}.partial"
    partial.write_text(json.dumps(dict(result)) + "\n", encoding="utf-8")
    os.replace(partial, folder / RESULT)


def stop_with_starter() -> None:
    """From now on this process ends as if by Ctrl-C when its standard input does; and in order by SIGTERM."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    while os.read(0, 1024):  # nothing comes when whoever holds the other end is gone; sys.stdin would lock at exit
        pass
    _thread.interrupt_main(signal.SIGTERM)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(STOPPED)


if __name__ == "__main__":
    main()
