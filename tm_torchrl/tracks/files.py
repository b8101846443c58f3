"""Tracks on disk: one .npz with the defining arrays and a format version."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tm_torchrl.tracks.track import Track

FORMAT_VERSION = 1
ARRAYS = ("centreline", "half_width", "bank", "surface", "checkpoints")
SCALARS: dict[str, type] = {
    "name": str,
    "wall_offset": float,
    "is_circuit": bool,
    "num_laps": int,
    "start": int,
    "finish": int,
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
        with np.load(path, allow_pickle=False) as archive:
            content = {key: archive[key] for key in archive.files}
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
    ) as error:
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
    try:
        scalars = {key: kind(content[key].item()) for key, kind in SCALARS.items()}
    except ValueError as error:
        raise ValueError(f"path {str(path)!r} is damaged: a field that should be one value is not ({error})") from error
    return {**{key: content[key] for key in ARRAYS}, **scalars}
