"""Parquet files for a hub of data sets: a row for each frame, images as PNG, and a card that says what it is.

    README.md
    data/train-00000.parquet     lap, step, observation, action, chosen, and may have regret and image {bytes, path}

The metadata of each file has the description of the laps, and their times and starts.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tm_torchrl.data.demonstrations.description import Description
from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.writer import DrivenLap
from tm_torchrl.data.formats.laps import checked_lap, laps_of
from tm_torchrl.data.saving.atomic_files import DamagedFileError
from tm_torchrl.lazy import import_extra

VERSION = 1
OURS = b"tm_torchrl"  # entry of a file's metadata
LAPS_OF_FILE = 64
MOST_PIXELS = 4096 * 4096

_CARD = """---
pretty_name: TrackMania laps on {track}
tags: [reinforcement-learning, imitation-learning, trackmania]
configs:
- config_name: default
  data_files: data/*.parquet
---
# TrackMania laps on {track}

{laps} laps of {frames} frames, driven by {driver} in the simulator of tm_torchrl, 50 ms a frame. `observation` has
{floats} floats in the order of `tm_torchrl.world.observation`, `action` is what was played, `chosen` what the driver
chose, and `regret`, if it is there, how many seconds more each action would have cost. To learn from them:
`tm-torchrl convert FOLDER --out demonstrations/{track}`.
"""


def is_parquet(path: Path) -> bool:
    """Whether a folder has Parquet files, or ``data`` in it.

    Args:
        path: The folder.
    """
    return bool(_files(path))


def write_parquet(folder: DemonstrationFolder, out: Path) -> None:
    """Write laps as Parquet files.

    Args:
        folder: The laps.
        out: A new folder.
    """
    description, laps = folder.description, laps_of(folder)
    (out / "data").mkdir(parents=True)
    number = 0
    while chunk := list(islice(laps, LAPS_OF_FILE)):
        _write_file(out / "data" / f"train-{number:05d}.parquet", chunk, description)
        number += 1
    card = _CARD.format(
        track=description.track,
        driver=description.driver,
        laps=folder.num_laps,
        frames=len(folder),
        floats=sum(size for _, size in description.floats),
    )
    (out / "README.md").write_text(card, encoding="utf-8")


def _write_file(path: Path, laps: Sequence[DrivenLap], description: Description) -> None:
    pa, parquet = import_extra("pyarrow"), import_extra("pyarrow.parquet")
    facts = [
        {
            "frames": len(lap.action),
            "time_s": None if np.isnan(lap.time_s) else lap.time_s,
            "zone": lap.zone,
            "start": lap.start.tolist(),
        }
        for lap in laps
    ]
    columns: dict[str, Any] = {
        "lap": pa.array(np.repeat(np.arange(len(laps)), [len(lap.action) for lap in laps]), pa.int32()),
        "step": pa.array(np.concatenate([np.arange(len(lap.action)) for lap in laps]), pa.int32()),
        **{name: _column(np.concatenate([getattr(lap, name) for lap in laps])) for name in _plain_arrays(description)},
    }
    if description.image_size is not None:
        pictures = [{"bytes": _png(image[0]), "path": None} for lap in laps for image in lap.pixels]  # type: ignore[union-attr]
        columns["image"] = pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    text = json.dumps({"version": VERSION, "description": description.to_json(), "laps": facts})
    table = pa.table(columns).replace_schema_metadata({OURS: text.encode()})
    parquet.write_table(table, path, compression="zstd", write_page_checksum=True)


def _plain_arrays(description: Description) -> list[str]:
    return [name for name in description.frame_arrays if name != "pixels"]


def _column(array: np.ndarray) -> Any:
    pa = import_extra("pyarrow")
    flat = pa.array(array.reshape(-1))
    return flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def read_parquet(path: Path) -> tuple[Description, Iterator[DrivenLap]]:
    """The description and the laps of Parquet files that ``write_parquet`` wrote.

    Args:
        path: The folder.
    """
    files = _files(path)
    facts = [_facts(file) for file in files]
    first = facts[0]["description"]
    for file, found in zip(files, facts, strict=True):
        if found["description"] != first:
            raise ValueError(f"{file}: holds other laps than {files[0]}; keep data sets in folders of their own")
    try:
        description = Description.from_json(dict(first))
    except (ValueError, TypeError) as error:
        raise DamagedFileError(f"{files[0]}: {error}") from error
    return description, _laps(files, facts, description)


def _files(path: Path) -> list[Path]:
    return sorted((path / "data").glob("*.parquet")) or sorted(path.glob("*.parquet"))


def _facts(path: Path) -> dict[str, Any]:
    """What the metadata of a file says."""
    parquet = import_extra("pyarrow.parquet")
    try:
        text = (parquet.read_schema(path).metadata or {}).get(OURS)
        facts = None if text is None else json.loads(text)
    except Exception as error:  # of any class, from a file of anybody
        raise DamagedFileError(f"{path}: is no whole Parquet file ({type(error).__name__}: {error})") from error
    if text is None:
        raise ValueError(f"{path}: was not written by tm-torchrl convert, so nothing says what its columns mean")
    is_whole = isinstance(facts, dict) and isinstance(facts.get("laps"), list) and "description" in facts
    if not is_whole or facts.get("version") != VERSION:  # type: ignore[union-attr]
        raise DamagedFileError(f"{path}: its metadata is not that of version {VERSION}")
    return facts  # type: ignore[return-value]


def _laps(files: Sequence[Path], facts: Sequence[dict[str, Any]], description: Description) -> Iterator[DrivenLap]:
    parquet = import_extra("pyarrow.parquet")
    names = ["lap", "step", *_plain_arrays(description), *(["image"] if description.image_size else [])]
    for path, found in zip(files, facts, strict=True):
        try:
            table = parquet.read_table(path, columns=names, page_checksum_verification=True)
            arrays = {name: _values(table[name].combine_chunks()) for name in names}
        except Exception as error:  # of any class, from a file of anybody
            raise DamagedFileError(f"{path}: is damaged ({type(error).__name__}: {error})") from error
        first = 0
        for number, lap in enumerate(found["laps"]):
            source = f"{path}: lap {number}"
            try:
                rows = slice(first, first + int(lap["frames"]))
                is_whole = np.array_equal(arrays["step"][rows], np.arange(lap["frames"]))
                is_whole &= bool((arrays["lap"][rows] == number).all())
                own = {name: arrays[name][rows] for name in _plain_arrays(description)}
                own |= (
                    {"pixels": np.stack([_image(each) for each in arrays["image"][rows]])} if "image" in names else {}
                )
                own |= {"time_s": np.nan if lap["time_s"] is None else lap["time_s"]}
                own |= {"zone": lap["zone"], "start": lap["start"]}
            except (KeyError, TypeError, ValueError, OSError) as error:
                raise DamagedFileError(f"{source} is damaged ({type(error).__name__}: {error})") from error
            if not is_whole:
                raise DamagedFileError(f"{source}: frames are missing")
            yield checked_lap(own, description, source=source)
            first = rows.stop
        if first != len(arrays["lap"]):
            raise DamagedFileError(f"{path}: has {len(arrays['lap'])} frames; its laps have {first}")


def _values(column: Any) -> Any:
    """A column as an array, or a list of the bytes of images."""
    pa = import_extra("pyarrow")
    if pa.types.is_struct(column.type):
        return column.field("bytes").to_pylist()
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
    return column.to_numpy(zero_copy_only=False)


def _png(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="PNG", compress_level=3)
    return data.getvalue()


def _image(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if image.mode != "L" or image.width * image.height > MOST_PIXELS:
            raise ValueError(f"an image of mode {image.mode}, {image.width} x {image.height}; must be grey")
        return np.asarray(image)[None]
