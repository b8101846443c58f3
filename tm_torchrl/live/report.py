"""``report.html``: the page of one run in one file, which opens without a server."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tm_torchrl.data.saving.atomic_files import replacing
from tm_torchrl.live.api import Api
from tm_torchrl.live.one_file import page_with
from tm_torchrl.live.runs import Runs, name_of
from tm_torchrl.live.server import Request, RequestError, Route

PICTURE = "pretraining.png"  # of visual pretraining
MOST_PICTURE_BYTES = 2**22
MOST_TRACKS = 12  # whose laps are in the report
MOST_GHOSTS = 6  # of a track: laps of evaluations, the latest among them


def write_report(run: str | Path) -> Path:
    """Write the page from the files of a run folder; the run may still be going on.

    Args:
        run: The run folder.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise FileNotFoundError(f"run={folder}: must be an existing run folder")
    path = folder / "report.html"
    with replacing(path) as partial:
        partial.write_text(page_with(answers_of(folder)), encoding="utf-8")
    return path


def answers_of(folder: Path) -> dict[str, Any]:
    """What the page asks about a run, and the answers; those that fail, as for a damaged lap, are left out.

    Args:
        folder: The run folder.
    """
    runs = Runs([])
    number = runs.add(folder, name=name_of(folder))
    routes = Api(runs, drives=folder / "drives").routes()
    page = runs[number].page()
    page["has_values"] = False
    page["is_going_on"] = False  # a training that ends writes its report while the folder is still its own
    page["picture"] = _picture(folder / PICTURE)
    answers: dict[str, Any] = {"runs": {"runs": [{"id": number, **runs[number].summary()}], "tracks": []}}

    def keep(path: str, **words: str) -> None:
        answer: Route = routes[path]
        try:
            found: Any = answer(Request(words, False, None))
        except RequestError:
            return
        answers["\n".join([path, *words.values()])] = found.data

    for track in page["tracks"][:MOST_TRACKS]:
        name = track["name"]
        keep("track", track=name, run=number)
        for kind in ("best", "author"):
            keep("lap", track=name, run=number, kind=kind)
        page["ghosts"][name] = spread(page["ghosts"].get(name, []), MOST_GHOSTS)
        for ghost in page["ghosts"][name]:
            keep("lap", track=name, run=number, kind="ghost", frames=str(ghost["frames"]))
    answers[f"run\n{number}"] = page
    return answers


def _picture(path: Path) -> str | None:
    """A small PNG as text."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_PICTURE_BYTES:
        return None
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def spread(rows: Sequence[Any], most: int) -> list[Any]:
    """At most so many rows, evenly spread, with the last one.

    >>> spread([1, 2, 3, 4, 5, 6, 7], 3), spread([1, 2], 3)
    ([1, 4, 7], [1, 2])
    """
    step = max(-(-(len(rows) - 1) // max(most - 1, 1)), 1)
    return list(rows[::-1][::step][::-1])
