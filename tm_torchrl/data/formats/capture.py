"""Captures of the game by rulka's scripts: replays that were driven again, as pictures with keys and floats.

    TRACK_ID/REPLAY/manifest.json     entries: file, time_ms, action_idx; meta: the floats at each time_ms
                    frame_00000_0ms.jpeg

Frames are taken every 50 ms. Pictures become grey and 64 x 64; floats become the observation of this package, whose
previous actions are those of the entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tm_torchrl.data.demonstrations.description import Description
from tm_torchrl.data.demonstrations.writer import DrivenLap
from tm_torchrl.data.formats.laps import checked_lap, description_of
from tm_torchrl.data.saving.atomic_files import DamagedFileError
from tm_torchrl.settings.text_files import read_text
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import ACTIONS, FORWARD
from tm_torchrl.world.observation import observation_layout

MANIFEST = "manifest.json"
IMAGE_SIZE = 64
STEP_MS = 50
MOST_BYTES = 2**28  # of a manifest: a lap of a quarter of an hour at 100 frames a second
MOST_PIXELS = 4096 * 4096
META = {  # of a moment: how many numbers, and the fields of the observation that they are, in this order
    "gear_and_wheels": 32,
    "angular_velocity": 3,
    "velocity": 3,
    "orientation_flat": 9,
    "zone_centers_in_car_frame": 120,
    "margin": 1,
    "is_freewheeling": 1,
}


def is_capture(path: Path) -> bool:
    """Whether a folder is a captured replay, or holds some, or tracks with some.

    Args:
        path: The folder.
    """
    return bool(_replays(path))


def read_capture(path: Path, track: Track | None) -> tuple[Description, Iterator[DrivenLap]]:
    """The description and the laps of captured replays of one track.

    Args:
        path: The folder of a replay, or of a track with replays.
        track: The track.
    """
    replays = _replays(path)
    parents = {replay.parent for replay in replays}
    if len(parents) > 1:
        names = ", ".join(sorted(each.name for each in parents))
        raise ValueError(f"{path}: holds replays of several tracks ({names}); convert one of these folders at a time")
    source = f"captures of {next(iter(parents)).name}"
    description = description_of(track, source=source, num_floats=observation_layout().size, image_size=IMAGE_SIZE)
    return description, (_lap(replay, description) for replay in replays)


def _replays(path: Path) -> list[Path]:
    for pattern in (MANIFEST, f"*/{MANIFEST}", f"*/*/{MANIFEST}"):
        if found := sorted(path.glob(pattern)):
            return [each.parent for each in found]
    return []


def _lap(replay: Path, description: Description) -> DrivenLap:
    path = replay / MANIFEST
    try:
        manifest = json.loads(read_text(path, most_bytes=MOST_BYTES))
        entries = sorted(manifest["entries"], key=lambda entry: entry["time_ms"])
        times = [round(float(entry["time_ms"])) for entry in entries]
        known = {round(float(each["time_ms"])): each for each in manifest.get("meta") or []}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"{path}: is no manifest of a capture ({type(error).__name__}: {error})") from error
    if not known:
        raise ValueError(f"{path}: has no floats (meta); capture the replay again with them")
    first = times[0] if times else 0
    chosen = [entry for entry, time in zip(entries, times, strict=True) if (time - first) % STEP_MS == 0]
    wanted = list(range(first, times[-1] + 1, STEP_MS)) if times else []
    if [round(float(entry["time_ms"])) for entry in chosen] != wanted or not wanted:
        raise DamagedFileError(f"{path}: frames are missing; there must be one every {STEP_MS} ms")
    actions = np.array([_action(entry, path) for entry in chosen])
    observation = np.stack([_floats(known.get(time), actions[:step], path, time) for step, time in enumerate(wanted)])
    values = {
        "observation": observation,
        "action": actions,
        "chosen": actions,
        "pixels": np.stack([_picture(replay, entry, path) for entry in chosen]),
        "time_s": wanted[-1] / 1000.0,
    }
    return checked_lap(values, description, source=str(path))


def _action(entry: Mapping[str, Any], path: Path) -> int:
    action = entry.get("action_idx")
    if isinstance(action, bool) or not isinstance(action, int) or not 0 <= action < len(ACTIONS):
        raise DamagedFileError(f"{path}: action_idx={action!r}; must be 0 to {len(ACTIONS) - 1}")
    return action


def _floats(meta: Mapping[str, Any] | None, before: np.ndarray, path: Path, time_ms: int) -> np.ndarray:
    """The observation of a moment."""
    if meta is None:
        raise DamagedFileError(f"{path}: has no floats (meta) at {time_ms} ms")
    found: dict[str, np.ndarray] = {}
    for name, size in META.items():
        try:
            found[name] = np.asarray(meta[name], np.float32).reshape(-1)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path}: {name} at {time_ms} ms is missing or no numbers") from error
        if len(found[name]) != size:
            raise ValueError(
                f"{path}: {name} at {time_ms} ms has {len(found[name])} numbers; must have {size}, rulka's default"
            )
    layout = observation_layout()
    num = layout["previous_actions"].stop - layout["previous_actions"].start
    last = np.concatenate([np.full(num // 4, FORWARD), before])[-(num // 4) :]
    floats = np.concatenate(
        [
            [0.0],
            _keys(last),
            found["gear_and_wheels"],
            found["angular_velocity"],
            found["velocity"],
            found["orientation_flat"].reshape(3, 3) @ [0.0, 1.0, 0.0],
            found["zone_centers_in_car_frame"],
            found["margin"],
            found["is_freewheeling"],
        ]
    )
    return floats.astype(np.float32)


def _keys(actions: Sequence[int] | np.ndarray) -> np.ndarray:
    """Gas, brake, left and right of some actions, one after the other."""
    return np.asarray([ACTIONS[action] for action in actions], np.float32).reshape(-1)


def _picture(replay: Path, entry: Mapping[str, Any], path: Path) -> np.ndarray:
    name = entry.get("file")
    if not isinstance(name, str) or Path(name).name != name:
        raise DamagedFileError(f"{path}: file={name!r} is not the name of a file beside it")
    try:
        with Image.open(replay / name, formats=["JPEG", "PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            grey = image.convert("L").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError) as error:
        raise DamagedFileError(f"{replay / name}: is missing or no picture ({error})") from error
    return np.asarray(grey)[None]
