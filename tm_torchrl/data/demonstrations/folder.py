"""Reads a folder of demonstrations; nothing in it is executed, and its arrays stay on the disk until they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.data.demonstrations.description import MANIFEST, UNTRIED, Description, read_list
from tm_torchrl.data.saving.atomic_files import DamagedFileError, check_file
from tm_torchrl.world.actions import NUM_ACTIONS

_LAP_ARRAYS = ("lap_frames", "lap_time_s", "lap_start", "lap_zone")


class DemonstrationFolder:
    """The laps of a folder.

    Frames are numbered through all laps, in the order in which they were recorded.

    Args:
        path: The folder.

    Attributes:
        description: What the laps have in common.
        num_attempts: Laps that were tried for them, with those that were not kept.
        lap_frames: Frames of each lap, ``[L]``.
        lap_first: Number of the first frame of each lap, ``[L]``.
        lap_time_s: Race time of each lap at the finish, NaN without one, ``[L]``.
        lap_start: The simulator's state at the start of each lap, ``[L, S]``.
        lap_zone: The zone of the track in which each lap began, ``[L]``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        manifest_path = self.path / MANIFEST
        if not manifest_path.exists():
            there = "does not exist" if not self.path.exists() else f"has no {MANIFEST}"
            raise ValueError(f"data={path}: {there}; record laps into it with tm-torchrl record TRACK --out {path}")
        manifest = read_list(self.path)
        try:
            self.description = Description.from_json(dict(manifest["description"]))
        except ValueError as error:
            raise ValueError(f"{manifest_path}: {error}") from error
        self.num_attempts: int = manifest["num_attempts"]
        if not manifest["parts"]:
            raise ValueError(f"data={path}: holds no laps; all {self.num_attempts} attempts failed")
        self._parts = [self._opened(entry) for entry in manifest["parts"]]
        self.lap_frames, self.lap_time_s, self.lap_start, self.lap_zone = (
            np.concatenate([part[name] for part in self._parts]) for name in _LAP_ARRAYS
        )
        self.lap_first = np.cumsum(self.lap_frames) - self.lap_frames
        self._ends = np.cumsum([len(part["action"]) for part in self._parts])

    def __len__(self) -> int:
        """The number of frames."""
        return int(self._ends[-1])

    @property
    def num_laps(self) -> int:
        """The number of laps."""
        return len(self.lap_frames)

    def rows(self, name: str, frames: np.ndarray) -> np.ndarray:
        """An array's values of these frames.

        Args:
            name: ``"observation"``, ``"action"``, ``"chosen"``, and ``"pixels"`` or ``"regret"`` if there are any.
            frames: Numbers of frames, in any order.
        """
        first = self._parts[0][name]
        found = np.empty((len(frames), *first.shape[1:]), first.dtype)
        part_of = np.searchsorted(self._ends, frames, side="right")
        for number in np.unique(part_of):
            mine, part = part_of == number, self._parts[number][name]
            found[mine] = part[frames[mine] - (self._ends[number] - len(part))]
        return found

    def _opened(self, entry: dict[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a part, checked."""
        folder, arrays = self.path / entry["folder"], {}
        expected = self.description.arrays(num_frames=entry["frames"], num_laps=entry["laps"])
        for name, (kind, shape) in expected.items():
            path = folder / f"{name}.npy"
            if name not in entry["files"]:
                raise DamagedFileError(f"{self.path / MANIFEST}: lists no {name}.npy of {entry['folder']}")
            check_file(path, entry["files"][name])
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:
                raise DamagedFileError(f"{path} is no array of numbers: {error}") from error
            if array.dtype != kind or array.shape != shape:
                raise DamagedFileError(f"{path} holds {array.dtype} {list(array.shape)}; must be {kind} {list(shape)}")
            arrays[name] = array
        lengths = arrays["lap_frames"]
        if entry["laps"] < 1 or (lengths < 1).any() or lengths.sum() != entry["frames"]:
            raise DamagedFileError(f"{folder}: the lengths of its laps do not add up to {entry['frames']} frames")
        if max(arrays[name].max() for name in ("action", "chosen")) >= NUM_ACTIONS:
            raise DamagedFileError(f"{folder}: has actions above {NUM_ACTIONS - 1}, which there are not")
        if "regret" in arrays and not ((arrays["regret"] >= 0) & (arrays["regret"] <= UNTRIED)).all():
            raise DamagedFileError(f"{folder}: has regret that is not between 0 and {UNTRIED:g} seconds")
        return arrays
