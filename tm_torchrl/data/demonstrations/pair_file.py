"""Files of pairs: of two recorded segments that begin in the same state, one is preferred.

A file has a JSON object in each line. It points to laps of recorded folders, whose paths are relative to the file:

    {"preferred": {"folder": "first", "lap": 3, "step": 0, "steps": 60},
     "rejected": {"folder": "second", "lap": 5, "step": 0, "steps": 48}}

``step`` is the first step of a segment in its lap, counted from 0, and ``steps`` is their number. Both segments must
begin in the same state: their laps begin equally and are equal up to ``step``, which then is the same in both. Nothing
in a file is executed or unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.saving.atomic_files import DamagedFileError, explained_disk_errors, replacing
from tm_torchrl.settings.text_files import read_text

SIDES = ("preferred", "rejected")
_KINDS = {"folder": str, "lap": int, "step": int, "steps": int}


@dataclass(frozen=True)
class Segment:
    """Some steps of a recorded lap.

    Args:
        folder: The folder, relative to the file of pairs.
        lap: Number of the lap in the folder.
        step: The first step, counted from 0.
        steps: The number of steps.
    """

    folder: str
    lap: int
    step: int
    steps: int


class PairFile:
    """The pairs of a file, and the folders that they point to; all is checked when it is opened.

    Args:
        path: The file.
        open_folder: Opens a folder of recorded laps, and refuses one that does not fit.

    Attributes:
        pairs: The preferred and the rejected segment of each pair.
        folders: The folders by their names in the file.
    """

    def __init__(self, path: str | Path, open_folder: Callable[[Path], DemonstrationFolder]) -> None:
        self.path = Path(path)
        try:
            lines = read_text(self.path).splitlines()
        except (OSError, ValueError) as error:
            raise ValueError(f"data={path}: no file of pairs ({error}); make one with tm-torchrl pairs") from error
        self.pairs: list[tuple[Segment, Segment]] = []
        self.folders: dict[str, DemonstrationFolder] = {}
        for number, line in enumerate(lines, 1):
            try:
                pair = segments_of(line)
                for segment in pair:
                    if segment.folder not in self.folders:
                        self.folders[segment.folder] = open_folder(self.path.parent / segment.folder)
                self._check(*pair)
            except (ValueError, DamagedFileError) as error:
                raise ValueError(f"data={path}: line {number}: {error}") from error
            self.pairs.append(pair)
        if not self.pairs:
            raise ValueError(f"data={path}: has no pairs")

    def frames_of(self, segment: Segment) -> np.ndarray:
        """The numbers of a segment's frames in its folder."""
        first = self.folders[segment.folder].lap_first[segment.lap] + segment.step
        return np.arange(first, first + segment.steps)

    def _check(self, preferred: Segment, rejected: Segment) -> None:
        for side, segment in zip(SIDES, (preferred, rejected), strict=True):
            folder = self.folders[segment.folder]
            if segment.lap >= folder.num_laps:
                raise ValueError(f"{side}.lap={segment.lap}: {segment.folder} has {folder.num_laps} laps, from 0")
            if segment.step + segment.steps > folder.lap_frames[segment.lap]:
                raise ValueError(
                    f"{side}: steps {segment.step} to {segment.step + segment.steps} of lap {segment.lap} of "
                    f"{segment.folder}, which has {folder.lap_frames[segment.lap]}"
                )
        if preferred.step != rejected.step or not all(
            np.array_equal(*both) for both in zip(self._history(preferred), self._history(rejected), strict=True)
        ):
            raise ValueError("preferred and rejected begin in different states; pairs must begin in the same one")

    def _history(self, segment: Segment) -> tuple[Any, ...]:
        """What the state at the segment's first step follows from."""
        folder = self.folders[segment.folder]
        first = folder.lap_first[segment.lap]
        actions = folder.rows("action", np.arange(first, first + segment.step))
        return folder.description.track_hash, folder.lap_start[segment.lap], folder.lap_zone[segment.lap], actions


def segments_of(line: str) -> tuple[Segment, Segment]:
    """The preferred and the rejected segment of a line.

    Args:
        line: JSON.

    Examples:
        >>> preferred, rejected = segments_of(
        ...     '{"preferred": {"folder": "a", "lap": 3, "step": 0, "steps": 60},'
        ...     ' "rejected": {"folder": "b", "lap": 5, "step": 0, "steps": 48}}'
        ... )
        >>> rejected
        Segment(folder='b', lap=5, step=0, steps=48)
    """
    try:
        entries: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error})") from error
    if not isinstance(entries, dict) or set(entries) != set(SIDES):
        raise ValueError(f"must be an object with {' and '.join(SIDES)}")
    found = []
    for side in SIDES:
        values = entries[side]
        if not isinstance(values, dict) or set(values) != set(_KINDS):
            raise ValueError(f"{side}: must be an object with {', '.join(_KINDS)}")
        for name, kind in _KINDS.items():
            least = 1 if name == "steps" else 0
            if type(values[name]) is not kind or (kind is int and values[name] < least):
                kind_name = "a text" if kind is str else f"a whole number of at least {least}"
                raise ValueError(f"{side}.{name}={str(values[name])[:60]!r}: must be {kind_name}")
        found.append(Segment(**values))
    return found[0], found[1]


def write_pairs(path: Path, pairs: Sequence[tuple[Segment, Segment]]) -> None:
    """Write a file of pairs, each with the preferred segment first.

    Args:
        path: The file.
        pairs: The pairs.
    """
    with explained_disk_errors("the pairs", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
            for pair in pairs:
                file.write(json.dumps(dict(zip(SIDES, map(asdict, pair), strict=True))) + "\n")
