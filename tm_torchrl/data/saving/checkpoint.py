"""``Checkpoints``: states of a run on disk, each complete or absent."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tm_torchrl.data.saving import atomic_files
from tm_torchrl.data.saving.atomic_files import MANIFEST, DamagedFileError, SavingError, read_manifest, remove_folder
from tm_torchrl.data.saving.plain_state import load_state, state_to_bytes

_LOG = logging.getLogger("tm_torchrl")
_VERSION = 1
_READ_TRIES, _READ_WAIT_S = 3, 0.05  # a run may be replacing what another process is reading
_STATE, _BEST = "state.pt", "best"
_CHECKPOINT = re.compile(r"(?:replaced_)?frames_(\d{12,})")
_LEFT_OVER = re.compile(rf"(?:partial|removed)_(?:replaced_)?(?:frames_\d{{12,}}|{_BEST})")
_REPLACED = re.compile(rf"replaced_(frames_\d{{12,}}|{_BEST})")

Paths = list[Path]  # inside the class, ``list`` is its method
Manifests = list[dict[str, Any]]


class CheckpointError(SavingError):
    """A checkpoint could not be written, or none can be read."""


class NoBestError(CheckpointError):
    """There are no best weights, as before the first evaluation."""


class Checkpoints:
    """The checkpoints of a run: the last few, and the weights that were best in an evaluation.

    A checkpoint is a folder ``frames_000000012345`` with ``state.pt``, which holds tensors, numbers and strings only
    (nothing in it is ever executed), and ``manifest.json`` with sizes, checksums and the facts that the run gave. It
    gets its name once all of it is on the disk, so a process that is killed at any moment leaves the earlier ones or
    the new one. Reading changes nothing and is allowed while a run goes on.

    Args:
        folder: Created if it is missing; anything else in it is left alone.
        keep: Number of the last checkpoints to keep.

    Examples:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = Checkpoints(folder, keep=2)
        ...     for frames in (100, 200, 300):
        ...         path = checkpoints.save({"weight": torch.ones(2) * frames}, frames=frames, facts={"laps": 3})
        ...     state, manifest = Checkpoints(folder).load()
        ...     path.name, [found["frames"] for found in checkpoints.list()]
        ('frames_000000000300', [300, 200])
        >>> state["weight"], manifest["facts"]
        (tensor([300., 300.]), {'laps': 3})
    """

    def __init__(self, folder: str | Path, *, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep}: must be at least 1")
        self.folder = Path(folder)
        self.keep = keep

    def save(self, state: Any, *, frames: int, facts: Mapping[str, Any] | None = None) -> Path:
        """Write a checkpoint, delete those that are too old, and return the checkpoint's folder.

        A checkpoint of the same number of frames is replaced. If the disk refuses, a ``CheckpointError`` says why; the
        older checkpoints are unchanged and the run can continue.

        Args:
            state: Nested dicts, lists and tuples of tensors, TensorDicts, numbers and strings.
            frames: Number of frames played so far.
            facts: JSON values that are kept in the manifest.
        """
        if not 0 <= frames < 10**15:
            raise ValueError(f"frames={frames}: must be a number of played frames, from 0")
        path = self._write(f"frames_{frames:012d}", state, frames=frames, facts=facts)
        self._remove_old()
        return path

    def save_best(self, weights: Any, *, facts: Mapping[str, Any] | None = None) -> Path:
        """Write or replace the best weights, which stay when old checkpoints are deleted.

        Args:
            weights: State of the network, or any other state that ``save`` takes.
            facts: JSON values that are kept in the manifest, such as the lap time.
        """
        return self._write(_BEST, weights, frames=None, facts=facts)

    def load(self, frames: int | None = None) -> tuple[Any, dict[str, Any]]:
        """State and manifest of the newest complete checkpoint.

        Newer ones that are damaged are skipped with a warning in the log.

        Args:
            frames: Loads the checkpoint of this number of frames and no other.
        """
        skipped = []
        if frames is not None:
            pattern = f"frames_{frames:012d}"
            paths = [path for path in self._paths() if path.name.removeprefix("replaced_") == pattern]
        else:
            pattern = "frames_*"
            paths = sorted(self._paths(), key=self._age, reverse=True)
        for path in paths:
            try:
                state, manifest = self._read(path)
            except CheckpointError as problem:
                skipped.append(str(problem))
                continue
            for problem_text in skipped:
                _LOG.warning("a damaged checkpoint is skipped: %s; %s is loaded", problem_text, path.name)
            return state, manifest
        available = ", ".join(str(found["frames"]) for found in self.list()) or "none"
        raise CheckpointError(
            f"no complete checkpoint in {self.folder}: looked for {pattern} with {MANIFEST} and {_STATE}"
            + (f"; damaged: {'; '.join(skipped)}" if skipped else "")
            + (f"; checkpoints exist for frames: {available}" if frames is not None else "")
        )

    def load_best(self) -> tuple[Any, dict[str, Any]]:
        """Weights and manifest that ``save_best`` wrote."""
        for attempt in range(_READ_TRIES):
            for path in (self.folder / _BEST, self.folder / f"replaced_{_BEST}"):
                if path.exists():
                    try:
                        return self._read(path)
                    except CheckpointError:
                        if attempt == _READ_TRIES - 1:
                            raise
            time.sleep(_READ_WAIT_S)
        raise NoBestError(f"no best weights in {self.folder}: looked for {_BEST}, which save_best writes")

    def list(self) -> Manifests:
        """Manifests of the checkpoints whose files have their full sizes, newest first."""
        found = [manifest for path in self._paths() if (manifest := self._glance(path)) is not None]
        return sorted(found, key=lambda manifest: manifest["serial"], reverse=True)

    def _write(self, name: str, state: Any, *, frames: int | None, facts: Mapping[str, Any] | None) -> Path:
        start = time.perf_counter()
        plain_facts = atomic_files.as_json(facts or {}, name="facts")
        content = state_to_bytes(state)
        path, partial, replaced = (self.folder / f"{prefix}{name}" for prefix in ("", "partial_", "replaced_"))
        with atomic_files.explained_disk_errors(f"the checkpoint {name}", self.folder, error=CheckpointError):
            self.folder.mkdir(parents=True, exist_ok=True)
            serial = 1 + int(max((self._age(found)[0] for found in self._paths()), default=0))
            shutil.rmtree(partial, ignore_errors=True)
            try:
                partial.mkdir()
                written = atomic_files.write_file(partial / _STATE, [content])
                atomic_files.flush_file(partial / _STATE)
                manifest = {
                    "version": _VERSION,
                    "serial": serial,
                    "frames": frames,
                    "facts": plain_facts,
                    "bytes": written["bytes"],
                    "seconds": round(time.perf_counter() - start, 4),
                    "files": {_STATE: written},
                }
                atomic_files.write_manifest(partial / MANIFEST, manifest)
                if path.exists():
                    shutil.rmtree(replaced, ignore_errors=True)
                    atomic_files.rename(path, replaced)
                atomic_files.rename(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    if replaced.exists() and not path.exists():
                        atomic_files.rename(replaced, path)
                shutil.rmtree(partial, ignore_errors=True)
                raise
            atomic_files.flush_folder(self.folder)
        remove_folder(replaced)
        _LOG.info("%s: %.1f MB in %.2f s", path, written["bytes"] / 1e6, time.perf_counter() - start)
        return path

    def _read(self, path: Path) -> tuple[Any, dict[str, Any]]:
        try:
            manifest = _manifest(path)
            for name, facts in manifest["files"].items():
                atomic_files.check_file(path / name, facts)
            state = load_state(path / _STATE)
        except (DamagedFileError, ValueError, OSError, EOFError, RuntimeError) as problem:
            raise CheckpointError(str(problem) or type(problem).__name__) from problem
        return state, {**manifest, "path": str(path)}

    def _glance(self, path: Path) -> dict[str, Any] | None:
        """The manifest, if the files have the sizes that it names."""
        try:
            manifest = _manifest(path)
            if all((path / name).stat().st_size == facts["bytes"] for name, facts in manifest["files"].items()):
                return {**manifest, "path": str(path)}
        except (DamagedFileError, ValueError, OSError):
            pass
        return None

    def _paths(self) -> Paths:
        """Folders of checkpoints, including one that a killed process was replacing and whose new one is missing."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _CHECKPOINT.fullmatch(path.name) and path.is_dir()]
        proper = {path.name for path in found if path.name.startswith("frames_")}
        return [path for path in found if path.name in proper or path.name.removeprefix("replaced_") not in proper]

    def _age(self, path: Path) -> tuple[float, int]:
        """Order of saving; a checkpoint whose manifest is damaged is placed among the others by its frames."""
        match = _CHECKPOINT.fullmatch(path.name)
        frames = int(match[1]) if match else 0
        try:
            return _manifest(path)["serial"], frames
        except (DamagedFileError, ValueError):
            known = [found["serial"] for found in self.list() if found["frames"] < frames]
            return max(known, default=0) + 0.5, frames

    def _remove_old(self) -> None:
        """Delete what is older than the last few complete checkpoints, and what killed processes left behind."""
        complete = self.list()[: self.keep]
        if len(complete) == self.keep:
            oldest = complete[-1]["serial"]
            for path in self._paths():
                if self._age(path)[0] < oldest:
                    remove_folder(path)
        for path in self.folder.iterdir():
            replaced = _REPLACED.fullmatch(path.name)
            if _LEFT_OVER.fullmatch(path.name) or (replaced and (self.folder / replaced[1]).exists()):
                shutil.rmtree(path, ignore_errors=True)


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, with entries of the right kinds."""
    path = folder / MANIFEST
    manifest = read_manifest(path, version=_VERSION)
    atomic_files.check_kinds(path, manifest, {"serial": int, "facts": dict, "files": dict})
    if manifest.get("frames") is not None:  # the best weights have none
        atomic_files.check_kinds(path, manifest, {"frames": int})
    for name, facts in manifest["files"].items():
        atomic_files.check_kinds(path, {"file": name}, {"file": str})
        atomic_files.check_kinds(path, facts, {"bytes": int, "crc32": int})
    return manifest
