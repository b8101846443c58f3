"""One run of an ablation, in a process of its own: ``python -m tm_torchrl.trainers.ablation_run FOLDER``."""

from __future__ import annotations

import _thread
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tm_torchrl.trainers.construct import ConfigError

SETTINGS, RESULT, LOG, RUN = "settings.yaml", "result.json", "log.txt", "run"
STOPPED = 3  # exit status of a run that was interrupted and can go on


def main() -> None:
    """Train as the folder's settings say, or go on, and leave the result there; stop when the starter is gone."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_stop_with_starter, daemon=True).start()
    raise SystemExit(run_in(Path(sys.argv[1])))


def run_in(folder: Path) -> int:
    """Train in a folder; returns an exit status.

    Args:
        folder: with ``settings.yaml``; the run folder lies in it, and a run with a checkpoint goes on from there.
    """
    from tm_torchrl.trainers.loop import INTERRUPTED
    from tm_torchrl.trainers.start import summary_text, train

    settings: dict[str, Any] = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
    run = folder / RUN
    if any((run / "checkpoints").glob("frames_*")):
        settings["resume"] = str(run)
    elif run.exists():  # it ended before its first checkpoint
        shutil.rmtree(run)
    try:
        summary = train(settings, folder=run, is_quiet=True)
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(summary_text(summary) + "\n")
    if summary.reason == INTERRUPTED:
        return STOPPED
    partial = folder / f"{RESULT}.partial"
    result = {"frames": summary.frames, "seconds": summary.seconds, "reason": summary.reason}
    partial.write_text(json.dumps(result) + "\n", encoding="utf-8")
    os.replace(partial, folder / RESULT)
    return 0


def _stop_with_starter() -> None:
    while os.read(0, 1024):  # nothing comes when whoever holds the other end is gone; sys.stdin would lock at exit
        pass
    _thread.interrupt_main(signal.SIGTERM)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(STOPPED)


if __name__ == "__main__":
    main()
