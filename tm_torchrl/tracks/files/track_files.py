"""Tracks on disk: one .npz with the defining arrays and a format version."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tm_torchrl.tracks.files.array_files import read_arrays

if TYPE_CHECKING:
    from tm_torchrl.tracks.track import Track

FORMAT_VERSION = 1
ARRAYS = ("centreline", "half_width", "bank", "surface", "checkpoints")
SCALARS: dict[str, tuple[type, str, str]] = {  # type, kinds of numpy that it may be stored as, in words
    "name": (str, "U", "a text"),
    "wall_offset": (float, "fiu", "a number"),
    "is_circuit": (bool, "b", "true or false"),
    "num_laps": (int, "iu", "a whole number"),
    "start": (int, "iu", "a whole number"),
    "finish": (int, "iu", "a whole number"),
}


def save_arrays(track: Track, path: str | Path) -> Path:
    """Write beside the target and rename, so that a crash leaves the old file or the new one."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path must end in .npz, got {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path {str(path)!r} lies in a folder that does not exist; create {str(path.parent)!r}")
    content = {key: getattr(track, key) for key in (*ARRAYS, *SCALARS)}
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            np.savez_compressed(file, format_version=np.int64(FORMAT_VERSION), **content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def load_arrays(path: str | Path) -> dict[str, Any]:
    """Read the arguments of :class:`Track` from a file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path {str(path)!r} is not a file; a track is one .npz file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"path {str(path)!r} is no .npz file; a bare centreline .npy is read by from_centreline()")
    try:
        content = read_arrays(path, names=("format_version", *ARRAYS, *SCALARS))
    except (ValueError, OSError) as error:
        raise ValueError(f"path {str(path)!r} is damaged ({error}); save the track again") from error
    version = content.get("format_version")
    if version is None or version.ndim or not np.issubdtype(version.dtype, np.integer) or version < 1:
        raise ValueError(f"path {str(path)!r} has no format_version; was it written by Track.save()?")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"path {str(path)!r} has format_version {int(version)}, this tm_torchrl reads up to {FORMAT_VERSION}; "
            f"update tm_torchrl"
        )
    missing = [key for key in (*ARRAYS, *SCALARS) if key not in content]
    if missing:
        raise ValueError(f"path {str(path)!r} lacks {', '.join(missing)}; save the track again with Track.save()")
    for key, (_, kinds, what) in SCALARS.items():
        if content[key].size != 1 or content[key].dtype.kind not in kinds:
            found = f"{content[key].dtype} {list(content[key].shape)}"
            raise ValueError(f"path {str(path)!r} is damaged: {key} is {found}, {what} wanted; save the track again")
    try:
        scalars = {key: kind(content[key].item()) for key, (kind, _, _) in SCALARS.items()}
    except ValueError as error:  # of a text: bytes that are no characters
        raise ValueError(f"path {str(path)!r} is damaged ({error}); save the track again") from error
    return {**{key: content[key] for key in ARRAYS}, **scalars}
