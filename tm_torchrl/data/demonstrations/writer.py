"""Writes laps into a folder of demonstrations, part by part; what is complete stays, whatever happens later."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.data.demonstrations.description import MANIFEST, VERSION, Description, read_list
from tm_torchrl.data.saving.atomic_files import (
    explained_disk_errors,
    flush_file,
    flush_folder,
    without_link,
    write_file,
    write_manifest,
)

_BEGUN = {"part_00000", f"{MANIFEST}.partial"}  # what is left where the first part was not complete


@dataclass(frozen=True)
class DrivenLap:
    """One lap: T frames, and where it began.

    Args:
        observation: Float32 ``[T, F]``.
        action: What was played, ``[T]`` or ``[T, 5]``.
        chosen: What the driver chose, also where something else was played.
        time_s: Race time at the finish, NaN without one.
        start: The simulator's state at the start, float32 ``[S]``.
        zone: The zone of the track at the start.
        pixels: Uint8 ``[T, 1, H, W]``, or ``None``.
        regret: How much more each action costs the driver than the one that it chose, in seconds, float16 ``[T, A]``,
            or ``None``.
    """

    observation: np.ndarray
    action: np.ndarray
    chosen: np.ndarray
    time_s: float
    start: np.ndarray
    zone: int
    pixels: np.ndarray | None = None
    regret: np.ndarray | None = None


class DemonstrationWriter:
    """Adds laps to a folder, which is made if it does not exist.

    Each call of ``add`` writes a part and then replaces the list of parts in one step. A part that was not complete
    when the program ended is written anew.

    Args:
        folder: The folder.
        description: What its laps have in common; must be that of the laps that it holds.
    """

    def __init__(self, folder: str | Path, description: Description) -> None:
        self.folder = Path(folder)
        self.description = description
        self.num_attempts = 0
        self._parts: list[dict[str, Any]] = []
        if (self.folder / MANIFEST).exists():
            manifest = read_list(self.folder)
            _refuse_other(self.folder, manifest["description"], description)
            self.num_attempts, self._parts = manifest["num_attempts"], manifest["parts"]
        elif self.folder.exists() and (not self.folder.is_dir() or _names(self.folder) - _BEGUN):
            raise ValueError(f"out={folder}: exists and is no folder of demonstrations; choose another")

    @property
    def num_laps(self) -> int:
        """Laps that are complete in the folder."""
        return sum(part["laps"] for part in self._parts)

    @property
    def num_frames(self) -> int:
        """Frames of these laps together."""
        return sum(part["frames"] for part in self._parts)

    def add(self, laps: Sequence[DrivenLap], *, num_attempts: int) -> None:
        """Write laps as one part.

        Args:
            laps: The laps; without any, only the attempts are counted.
            num_attempts: Attempts that the recorder made for them, with those that it did not keep.
        """
        parts = list(self._parts)
        with explained_disk_errors("the laps", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if laps:
                parts.append(self._written(laps, name=f"part_{len(parts):05d}"))
            manifest = {
                "version": VERSION,
                "description": self.description.to_json(),
                "num_attempts": self.num_attempts + num_attempts,
                "parts": parts,
            }
            write_manifest(self.folder / MANIFEST, manifest)
        self._parts = parts
        self.num_attempts += num_attempts

    def _written(self, laps: Sequence[DrivenLap], *, name: str) -> dict[str, Any]:
        """The entry of a new part, whose files are on the disk."""
        num_frames, files = sum(len(lap.action) for lap in laps), {}
        part = without_link(self.folder / name)
        part.mkdir(exist_ok=True)
        for key, (kind, shape) in self.description.arrays(num_frames=num_frames, num_laps=len(laps)).items():
            array = _joined(key, laps).astype(kind, copy=False)
            if array.shape != shape:
                raise ValueError(f"laps: {key} has shape {list(array.shape)}; must be {list(shape)}")
            path = without_link(part / f"{key}.npy")
            files[key] = write_file(path, _npy(array))
            flush_file(path)
        flush_folder(part)
        return {"folder": name, "laps": len(laps), "frames": num_frames, "files": files}


def _joined(key: str, laps: Sequence[DrivenLap]) -> np.ndarray:
    if key == "lap_frames":
        return np.array([len(lap.action) for lap in laps])
    if key == "lap_time_s":
        return np.array([lap.time_s for lap in laps])
    if key == "lap_start":
        return np.stack([lap.start for lap in laps])
    if key == "lap_zone":
        return np.array([lap.zone for lap in laps])
    return np.concatenate([getattr(lap, key) for lap in laps])


def _npy(array: np.ndarray) -> list[Any]:
    """The bytes of a ``.npy`` file in parts."""
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return [header.getvalue(), array.reshape(-1).view(np.uint8)]


def _names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def _refuse_other(folder: Path, there: Any, description: Description) -> None:
    ours = description.to_json()
    there = {"weighs_actions": False, **there} if isinstance(there, dict) else {}  # younger than the other entries
    for key, value in ours.items():
        theirs = there.get(key)
        if isinstance(value, dict) and isinstance(theirs, dict):
            pairs = [(f"{key}.{name}", value[name], theirs.get(name)) for name in value]
            key, value, theirs = next((pair for pair in pairs if pair[1] != pair[2]), (key, value, theirs))
        if theirs != value:
            raise ValueError(f"out={folder}: has laps with {key}={theirs!r}, not {value!r}; record into another folder")
