"""What a folder of demonstrations is of: its track, its driver, and the arrays of its laps.

A folder has one part for each batch of laps that was recorded, and ``demonstrations.json``, which lists the parts that
are complete, with the size and the checksum of each of their files:

    demonstrations.json
    part_00000/observation.npy  float32 [F, 184]      what the driver saw before each action
               action.npy       uint8 [F] or [F, 5]   what was played, for 50 ms or five times 10 ms
               chosen.npy       uint8 [F] or [F, 5]   what the driver chose, also where something else was played
               pixels.npy       uint8 [F, 1, 64, 64]  the camera's image, if it was recorded
               regret.npy       float16 [F, 12]       if the driver weighs actions: how many seconds each costs
                                                      more than the chosen one; 1000 for those that it did not try
               lap_frames.npy   int64 [L]             frames of each lap, one lap after the other
               lap_time_s.npy   float64 [L]           race time at the finish, NaN for a lap without one
               lap_start.npy    float32 [L, S]        the simulator's state at the start: actions can be driven again
               lap_zone.npy     int32 [L]             the zone of the track in which the lap began
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.data.saving.atomic_files import DamagedFileError, check_kinds, read_manifest
from tm_torchrl.tracks import Track
from tm_torchrl.tracks.track_hash import track_hash
from tm_torchrl.world.actions import NUM_ACTIONS, TICKS_PER_ACTION
from tm_torchrl.world.observation import observation_layout

VERSION = 1
UNTRIED = 1000.0  # seconds of regret of an action that the driver did not try
MANIFEST = "demonstrations.json"
_KINDS = {"description": dict, "num_attempts": int, "parts": list}
_PART = {"folder": str, "laps": int, "frames": int, "files": dict}


@dataclass(frozen=True)
class Description:
    """What all laps of a folder have in common.

    Args:
        track: Name of the track.
        track_hash: Its ``track_hash``.
        driver: Who drove, as text.
        action_block: Actions in a frame: 1, or 5 of 10 ms.
        num_previous_actions: Previous actions in the floats.
        state_size: Numbers in the simulator's state.
        image_size: Height and width of the images; ``None`` for none.
        weighs_actions: Whether the driver says what each action costs.
        settings: How it was recorded: starts, disturbances, seed; plain values.
    """

    track: str
    track_hash: str
    driver: str
    state_size: int
    action_block: int = 1
    num_previous_actions: int = 5
    image_size: int | None = None
    weighs_actions: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, track: Track, **others: Any) -> Description:
        """The description of laps on a track.

        Args:
            track: The track.
            others: The remaining entries.
        """
        return cls(track.name, track_hash(track), **others)

    @property
    def floats(self) -> list[list[Any]]:
        """Name and size of each field of the floats."""
        return [[each.name, each.size] for each in observation_layout(self.num_previous_actions).fields]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "floats": self.floats}

    @classmethod
    def from_json(cls, values: Any) -> Description:
        """The inverse; raises ``ValueError`` that names an entry that is wrong.

        Args:
            values: What JSON gave.
        """
        kinds = {
            "track": str,
            "track_hash": str,
            "driver": str,
            "state_size": int,
            "action_block": int,
            "num_previous_actions": int,
            "image_size": (int, type(None)),
            "weighs_actions": bool,
            "settings": dict,
            "floats": list,
        }
        if isinstance(values, dict):
            values.setdefault("weighs_actions", False)  # it is younger than the others
        if not isinstance(values, dict) or set(values) != set(kinds):
            raise ValueError(f"its entries must be {', '.join(kinds)}")
        for name, kind in kinds.items():
            is_kind = isinstance(values[name], kind)  # type: ignore[arg-type]
            if not is_kind or (isinstance(values[name], bool) and kind is not bool):
                raise ValueError(f"{name}={values[name]!r} could not stand there")
        floats = values.pop("floats")
        found = cls(**values)
        if found.action_block not in (1, TICKS_PER_ACTION):
            raise ValueError(f"action_block={found.action_block}: must be 1 or {TICKS_PER_ACTION}")
        if found.weighs_actions and found.action_block > 1:
            raise ValueError("weighs_actions=True: only single actions are weighed, not blocks")
        if floats != found.floats:
            raise ValueError(
                f"floats: their layout is not that of this version ({sum(size for _, size in found.floats)} floats); "
                "record the laps again"
            )
        return found

    @property
    def frame_arrays(self) -> list[str]:
        """Names of the arrays with a row for each frame."""
        return [name for name in self.arrays(num_frames=0, num_laps=0) if not name.startswith("lap_")]

    def arrays(self, *, num_frames: int, num_laps: int) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """The arrays of a part: for each its type and its shape.

        Args:
            num_frames: F.
            num_laps: L.
        """
        block = () if self.action_block == 1 else (self.action_block,)
        num_floats = observation_layout(self.num_previous_actions).size
        arrays: dict[str, tuple[Any, tuple[int, ...]]] = {
            "observation": (np.float32, (num_frames, num_floats)),
            "action": (np.uint8, (num_frames, *block)),
            "chosen": (np.uint8, (num_frames, *block)),
            "lap_frames": (np.int64, (num_laps,)),
            "lap_time_s": (np.float64, (num_laps,)),
            "lap_start": (np.float32, (num_laps, self.state_size)),
            "lap_zone": (np.int32, (num_laps,)),
        }
        if self.image_size is not None:
            arrays["pixels"] = (np.uint8, (num_frames, 1, self.image_size, self.image_size))
        if self.weighs_actions:
            arrays["regret"] = (np.float16, (num_frames, NUM_ACTIONS))
        return {name: (np.dtype(kind).newbyteorder("<"), shape) for name, (kind, shape) in arrays.items()}


def read_list(folder: Path) -> dict[str, Any]:
    """The list of a folder's complete parts: ``description``, ``num_attempts`` and ``parts``, with their kinds checked.

    Args:
        folder: The folder.
    """
    path = folder / MANIFEST
    manifest = read_manifest(path, version=VERSION)
    check_kinds(path, manifest, _KINDS)
    for number, entry in enumerate(manifest["parts"]):
        check_kinds(path, entry, _PART)
        if entry["folder"] != f"part_{number:05d}":
            raise DamagedFileError(f"{path}: folder={entry['folder'][:60]!r}; must be part_{number:05d}")
        for facts in entry["files"].values():
            check_kinds(path, facts, {"bytes": int, "crc32": int})
    return manifest
