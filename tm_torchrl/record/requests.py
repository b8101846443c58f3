"""What a running training can be asked for from outside: files in its run folder, which it deletes once seen."""

from __future__ import annotations

from pathlib import Path

REQUESTS = ("stop", "save", "evaluate")


def ask(run: str | Path, what: str) -> None:
    """Ask the training in a run folder for something.

    Args:
        run: The run folder.
        what: ``"stop"``, ``"save"`` or ``"evaluate"``.
    """
    if what not in REQUESTS:
        raise ValueError(f"what={what!r}: must be one of {', '.join(REQUESTS)}")
    path = _path(run, what)
    path.unlink(missing_ok=True)  # if it is a link, the link
    path.touch(exist_ok=True)


def asked_for(run: str | Path) -> list[str]:
    """What a training was asked for since the last call.

    Args:
        run: Its run folder.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ask(folder, "save")
        ...     asked_for(folder), asked_for(folder)
        (['save'], [])
    """
    found = []
    for what in REQUESTS:
        try:
            _path(run, what).unlink()
        except OSError:  # most often: there is none
            continue
        found.append(what)
    return found


def _path(run: str | Path, what: str) -> Path:
    return Path(run) / f"please_{what}"
