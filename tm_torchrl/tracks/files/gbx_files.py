"""The game's own files: the drive in a replay and the checkpoints of a map.

They are read with ``pygbx``, which is GPL-3: it is not part of this project and only imported if the user installed it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.tracks.validate import MAX_DISTANCE_M

BLOCK_M = np.array([32.0, 8.0, 32.0])  # a cell of the game's grid
BLOCK_CENTRE_M = np.array([16.0, 0.0, 16.0])
USUAL_SAMPLE_MS = 100  # between positions, for a ghost that does not say
RAISED = {"StadiumRoadMainCheckpointRight": 5 / 8, "StadiumRoadMainCheckpointLeft": 5 / 8}  # of a cell's height
HIGH = 7 / 8  # blocks with High in their name
INSTALL = "pip install 'tm_torchrl[gbx]' (it needs liblzo2: on Debian apt install liblzo2-dev gcc)"


@dataclass(frozen=True)
class Drive:
    """The fastest drive of a file.

    Args:
        positions: Positions ``[N, 3]`` in metres, from the start to the finish.
        race_time_ms: Race time at the finish.
        num_respawns: How often the driver respawned; the line then jumps back and is a poor reference.
        sample_ms: Time between two positions.
    """

    positions: np.ndarray
    race_time_ms: int
    num_respawns: int
    sample_ms: int


@dataclass(frozen=True)
class MapFacts:
    """What can be read from a map without the game's meshes.

    Args:
        name: The map's name as the game shows it.
        environment: The game's environment, such as ``Stadium``.
        checkpoints: Centres ``[K, 3]`` of checkpoint blocks in metres, start-finish lines of lap races included.
    """

    name: str
    environment: str
    checkpoints: np.ndarray


def read_drive(path: str | Path) -> Drive:
    """The fastest ghost of a ``.Replay.Gbx`` or ``.Ghost.Gbx``.

    Raises:
        ValueError: The file cannot be read or holds no ghost.
        ImportError: pygbx is not installed.
    """
    with _parsed(path) as (gbx, kinds):
        ghosts = [ghost for ghost in gbx.get_classes_by_ids([kinds.CTN_GHOST]) if ghost.records and ghost.race_time > 0]
        drives = [_drive_of(min(ghosts, key=_time_of))] if ghosts else []
    if not drives:
        raise ValueError(f"{path} has no drive (ghost); give a .Replay.Gbx of a finished race")
    _check_positions(path, "positions", drives[0].positions)
    return drives[0]


def _time_of(ghost: Any) -> int:
    return int(ghost.cp_times[-1] if ghost.cp_times else ghost.race_time)


def _drive_of(ghost: Any) -> Drive:
    sample_ms = int(ghost.sample_period or USUAL_SAMPLE_MS)
    kept = ghost.records[: max(2, round(ghost.race_time / sample_ms) + 1)]
    positions = np.array([[r.position.x, r.position.y, r.position.z] for r in kept], np.float64)
    return Drive(positions, int(ghost.race_time), int(ghost.num_respawns), sample_ms)


def read_map(path: str | Path) -> MapFacts:
    """Name and checkpoints of a ``.Challenge.Gbx``, or of the map inside a replay.

    Raises:
        ValueError: The file cannot be read or holds no map.
        ImportError: pygbx is not installed.
    """
    with _parsed(path) as (gbx, kinds):
        challenges = [kinds.CHALLENGE, kinds.CHALLENGE_OLD]
        found = list(gbx.get_classes_by_ids(challenges))
        for replay in [] if found else gbx.get_classes_by_ids([kinds.REPLAY_RECORD]):
            found += replay.track.get_classes_by_ids(challenges) if replay.track is not None else []
        facts = [_facts_of(found[0])] if found else []
    if not facts:
        raise ValueError(f"{path} has no map (challenge); give the map's .Challenge.Gbx")
    _check_positions(path, "checkpoints", facts[0].checkpoints)
    return facts[0]


def _facts_of(challenge: Any) -> MapFacts:
    places = [
        (np.array(block.position.as_array(), np.float64) + np.array([0.0, _lift(str(block.name)), 0.0])) * BLOCK_M
        for block in challenge.blocks
        if "Checkpoint" in str(block.name) or "StartFinishLine" in str(block.name)
    ]
    checkpoints = np.array(places) + BLOCK_CENTRE_M if places else np.zeros((0, 3))
    return MapFacts(str(challenge.map_name), str(challenge.environment), checkpoints)


def _check_positions(path: str | Path, name: str, points: np.ndarray) -> None:
    if not (np.abs(points) <= MAX_DISTANCE_M).all():
        raise ValueError(f"{path} is damaged: its {name} must lie within {MAX_DISTANCE_M:g} m of 0; use another copy")


def _lift(name: str) -> float:
    return HIGH if "High" in name else RAISED.get(name, 0.0)


@contextlib.contextmanager
def _parsed(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """The parsed file and the parser's class ids; any error while it is read becomes a ``ValueError``."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not a file; the game saves replays in Documents/TrackMania/Tracks/Replays")
    try:
        pygbx = importlib.import_module("pygbx")
    except ImportError as error:
        raise ImportError(f"{path}: reading .Gbx files needs pygbx ({error}); {INSTALL}") from None
    try:
        yield pygbx.Gbx(str(path)), pygbx.GbxType
    except Exception as error:  # on damaged files the parser raises errors of any type, or leaves fields empty
        raise ValueError(
            f"{path} could not be read as a file of TrackMania Forever ({type(error).__name__}: {error}); files of "
            "later games have other formats"
        ) from None
