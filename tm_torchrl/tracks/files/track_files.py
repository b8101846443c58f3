"""Track files: a ``.npz`` with the arrays that define a track and a format version."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tm_torchrl.tracks.files.array_files import read_arrays, write_whole

if TYPE_CHECKING:
    from tm_torchrl.tracks.track import Track

FORMAT_VERSION = 1
ARRAYS = ("centreline", "half_width", "bank", "surface", "checkpoints")
SCALARS: dict[str, tuple[type, str, str]] = {  # type, numpy kinds that it may be stored as, its name in messages
    "name": (str, "U", "text"),
    "wall_offset": (float, "fiu", "a number"),
    "is_circuit": (bool, "b", "true or false"),
    "num_laps": (int, "iu", "a whole number"),
    "start": (int, "iu", "a whole number"),
    "finish": (int, "iu", "a whole number"),
}


def save_arrays(track: Track, path: str | Path) -> Path:
    """Write a track's defining arrays; returns the path."""
    content = {key: getattr(track, key) for key in (*ARRAYS, *SCALARS)}
    version = np.int64(FORMAT_VERSION)
    return write_whole(path, lambda file: np.savez_compressed(file, format_version=version, **content), suffix=".npz")


def load_arrays(path: str | Path) -> dict[str, Any]:
    """Read the arguments of :class:`Track` from a file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path {str(path)!r} is not a file; a track is one .npz file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"path {str(path)!r} is not a .npz file; from_centreline() reads the points of a .npy file")
    try:
        content = read_arrays(path, names=("format_version", *ARRAYS, *SCALARS))
    except (ValueError, OSError) as error:
        raise ValueError(f"path {str(path)!r} is damaged ({error}); save the track again") from error
    version = content.get("format_version")
    if version is None or version.ndim or not np.issubdtype(version.dtype, np.integer) or version < 1:
        raise ValueError(f"path {str(path)!r} has no format_version; was it written by Track.save()?")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"path {str(path)!r} has format_version {int(version)}; this version of tm_torchrl reads up to "
            f"{FORMAT_VERSION}: update tm_torchrl"
        )
    missing = [key for key in (*ARRAYS, *SCALARS) if key not in content]
    if missing:
        raise ValueError(f"path {str(path)!r} lacks {', '.join(missing)}; save the track again with Track.save()")
    for key, (_, kinds, what) in SCALARS.items():
        if content[key].size != 1 or content[key].dtype.kind not in kinds:
            found = f"{content[key].dtype} {list(content[key].shape)}"
            raise ValueError(f"path {str(path)!r} is damaged: {key} is {found}, must be {what}; save the track again")
    try:
        scalars = {key: kind(content[key].item()) for key, (kind, _, _) in SCALARS.items()}
    except ValueError as error:  # text with bytes that are not characters
        raise ValueError(f"path {str(path)!r} is damaged ({error}); save the track again") from error
    return {**{key: content[key] for key in ARRAYS}, **scalars}
