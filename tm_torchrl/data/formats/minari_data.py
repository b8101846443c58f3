"""Minari data sets: laps as episodes, with images as they are (Minari's own default would make lossy JPEG of some).

An episode has an observation more than actions, which laps do not have: the last one stands there twice. Rewards are
minus the seconds of a step.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.data.demonstrations.description import Description
from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.writer import DrivenLap
from tm_torchrl.data.formats.laps import checked_lap, description_of, laps_of
from tm_torchrl.data.saving.atomic_files import DamagedFileError
from tm_torchrl.lazy import import_extra
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import NUM_ACTIONS

STEP_S = 0.05
OURS = "tm_torchrl"  # entry of the metadata with our description, for laps that come back
METADATA = "metadata.json"


def is_minari(path: Path) -> bool:
    """Whether a folder is a Minari data set, or its ``data``.

    Args:
        path: The folder.
    """
    return (path / "data" / METADATA).is_file() or ((path / METADATA).is_file() and any(path.glob("main_data*")))


def write_minari(folder: DemonstrationFolder, out: Path) -> None:
    """Write laps as a data set that ``minari.MinariDataset(out / "data")`` opens.

    Args:
        folder: The laps.
        out: A new folder.
    """
    from gymnasium import spaces

    minari = import_extra("minari.dataset.minari_storage")
    laps = folder.description
    num_floats = sum(size for _, size in laps.floats)
    seen: dict[str, Any] = {"observation": spaces.Box(-np.inf, np.inf, (num_floats,), np.float32)}
    if laps.image_size is not None:
        seen["pixels"] = spaces.Box(0, 255, (1, laps.image_size, laps.image_size), np.uint8)
    block = [NUM_ACTIONS] * laps.action_block
    action = spaces.Discrete(NUM_ACTIONS) if laps.action_block == 1 else spaces.MultiDiscrete(block)
    (out / "data").mkdir(parents=True)
    storage = minari.MinariStorage.new(
        out / "data", observation_space=spaces.Dict(seen), action_space=action, data_format="hdf5", jpeg_encoding=False
    )
    storage.update_metadata(
        {
            "dataset_id": f"{OURS}/{laps.track}-v0",
            "algorithm_name": laps.driver,
            "description": "Laps. The last observation stands twice; rewards are minus the seconds of a step.",
            "minari_version": "~=0.5.0",
            OURS: laps.to_json(),
        }
    )
    for number, lap in enumerate(laps_of(folder)):
        storage.update_episodes([_episode(minari.EpisodeBuffer, lap, has_images=laps.image_size is not None)])
        facts = {"lap_time_s": lap.time_s, "lap_zone": lap.zone, "lap_start": lap.start, "crc32": checksum(lap)}
        storage.update_episode_metadata([facts], [number])


def _episode(make: Any, lap: DrivenLap, *, has_images: bool) -> Any:
    num = len(lap.action)
    names = ["observation", *(["pixels"] if has_images else [])]
    further = {"chosen": lap.chosen} | ({} if lap.regret is None else {"regret": lap.regret})
    is_last = np.arange(num) == num - 1
    is_finished = not np.isnan(lap.time_s)
    return make(
        observations={name: np.concatenate([array := getattr(lap, name), array[-1:]]) for name in names},
        actions=lap.action.astype(np.int64),
        rewards=np.full(num, -STEP_S),
        terminations=is_last & is_finished,
        truncations=is_last & (not is_finished),
        infos={name: np.concatenate([array, array[-1:]]) for name, array in further.items()},
    )


def read_minari(path: Path, track: Track | None) -> tuple[Description, Iterator[DrivenLap]]:
    """The description and the laps of a data set; nothing that it names is made or imported.

    Args:
        path: The folder.
        track: Where the laps were driven, unless the data set says it.
    """
    minari = import_extra("minari.dataset.minari_storage")
    data = path / "data" if (path / "data" / METADATA).is_file() else path
    try:
        facts = json.loads((data / METADATA).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"{data / METADATA} is no JSON: {error}") from error
    for name, kind in (("observation_space", str), ("action_space", str), ("total_episodes", int)):
        if not isinstance(facts, dict) or not isinstance(facts.get(name), kind):  # Minari would make the environment
            raise DamagedFileError(f"{data / METADATA}: has no {name}; such a data set cannot be read safely")
    try:
        storage = minari.MinariStorage.read(data)
        space = storage.observation_space
    except Exception as error:  # of any class, from a file of anybody
        raise DamagedFileError(f"{path}: is no whole data set ({type(error).__name__}: {error})") from error
    parts = dict(getattr(space, "spaces", {"observation": space}))
    if "observation" not in parts or set(parts) - {"observation", "pixels"} or len(parts["observation"].shape) != 1:
        raise ValueError(f"{path}: observes {', '.join(parts)}; must be a vector, observation, and may have pixels")
    pixels = parts.get("pixels")
    if pixels is not None and facts.get("jpeg_encoding", True) and minari.is_image_space(pixels):
        raise ValueError(f"{path}: its images are lossy JPEG; write it again with jpeg_encoding=False")
    if OURS in facts:
        try:
            description = Description.from_json(dict(facts[OURS]))
        except (ValueError, TypeError) as error:
            raise DamagedFileError(f"{data / METADATA}: {OURS}: {error}") from error
    else:
        description = description_of(
            track,
            source=f"Minari {facts.get('dataset_id', path.name)}",
            num_floats=parts["observation"].shape[0],
            action_block=1 if not storage.action_space.shape else int(storage.action_space.shape[0]),
            image_size=None if pixels is None else int(pixels.shape[-1]),
        )
    return description, _laps(storage, path, description)


def _laps(storage: Any, path: Path, description: Description) -> Iterator[DrivenLap]:
    for number in range(storage.total_episodes):
        source = f"{path}: episode {number}"
        try:
            (episode,), (facts,) = storage.get_episodes([number]), storage.get_episode_metadata([number])
            seen, num = episode["observations"], len(episode["actions"])
            seen = seen if isinstance(seen, dict) else {"observation": seen}
            infos = episode["infos"] or {}
            further = {"chosen": infos.get("chosen", episode["actions"])}
            if description.weighs_actions:
                further["regret"] = infos["regret"]
            further = {name: np.asarray(array)[:num] for name, array in further.items()}
            is_finished = bool(episode["terminations"][-1])
        except Exception as error:  # of any class, from a file of anybody
            raise DamagedFileError(f"{source} is damaged ({type(error).__name__}: {error})") from error
        lengths = {name: len(array) for name, array in seen.items()}
        if set(lengths.values()) != {num + 1}:
            raise DamagedFileError(
                f"{source}: has {num} actions and {lengths} observations; must have one more of each"
            )
        lap = checked_lap(
            {
                **{name: array[:num] for name, array in seen.items()},
                "action": episode["actions"],
                **further,
                "time_s": facts.get("lap_time_s", num * STEP_S if is_finished else np.nan),
                **({"zone": facts["lap_zone"]} if "lap_zone" in facts else {}),
                **({"start": facts["lap_start"]} if "lap_start" in facts else {}),
            },
            description,
            source=source,
        )
        if "crc32" in facts and facts["crc32"] != checksum(lap):
            raise DamagedFileError(f"{source}: is not what was written")
        yield lap


def checksum(lap: DrivenLap) -> int:
    """Of a lap, since HDF5 has none.

    Args:
        lap: The lap.
    """
    numbers = np.array([lap.time_s, lap.zone])
    arrays = [
        lap.observation,
        lap.action,
        lap.chosen,
        lap.start,
        numbers,
        *([] if lap.pixels is None else [lap.pixels]),
        *([] if lap.regret is None else [lap.regret]),
    ]
    return reduce(lambda found, array: zlib.crc32(array.tobytes(), found), arrays, 0)
