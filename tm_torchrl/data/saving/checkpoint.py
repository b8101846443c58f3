"""``Checkpoints``: states of a run on disk, each whole or absent."""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tm_torchrl.data.saving.plain_state import from_plain, to_plain
from tm_torchrl.data.saving.whole_files import (
    MANIFEST,
    DamagedFileError,
    SavingError,
    as_json,
    check_file,
    explaining,
    flush_file,
    flush_folder,
    packed,
    read_manifest,
    remove_folder,
    rename,
    unpacked,
    write_file,
    write_manifest,
)

_LOG = logging.getLogger("tm_torchrl")
_VERSION = 1
_READ_TRIES, _READ_WAIT_S = 3, 0.05  # a run may be replacing what another process is reading
_STATE, _BEST = "state.pt", "best"
_CHECKPOINT = re.compile(r"(?:replaced_)?frames_(\d{12,})")
_LEFT_OVER = re.compile(rf"(?:partial|removed)_(?:replaced_)?(?:frames_\d{{12,}}|{_BEST})")
_REPLACED = re.compile(rf"replaced_(frames_\d{{12,}}|{_BEST})")

Paths = list[Path]  # within the class, list is its method
Manifests = list[dict[str, Any]]


class CheckpointError(SavingError):
    """A checkpoint could not be written, or none can be read."""


class Checkpoints:
    """The checkpoints of a run: the last few, and the weights that were best in an evaluation.

    A checkpoint is a folder ``frames_000000012345`` with ``state.pt``, which holds tensors, numbers and names only
    (nothing in it is ever run), and ``manifest.json`` with sizes, checksums and what the run says of itself. It gets
    its name when all of it is on the disk, so a process killed at any moment leaves the ones before or the new one.
    Reading changes nothing: it may be done while a run goes on.

    Args:
        folder: made if need be; whatever else lies in it is left alone.
        keep: how many of the last checkpoints are kept.

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
            raise ValueError(f"keep={keep}: at least one checkpoint is kept")
        self.folder = Path(folder)
        self.keep = keep

    def save(self, state: Any, *, frames: int, facts: Mapping[str, Any] | None = None) -> Path:
        """Write a checkpoint, then delete those that are too old.

        One of the same number of frames is replaced. If the disk refuses, a ``CheckpointError`` says why; the older
        checkpoints are untouched and the run can go on.

        Args:
            state: nested dicts, lists and tuples of tensors, TensorDicts, numbers and names.
            frames: played so far.
            facts: values that JSON knows, kept in the manifest.

        Returns:
            The checkpoint's folder. Its manifest tells ``bytes`` and ``seconds``.
        """
        if not 0 <= frames < 10**15:
            raise ValueError(f"frames={frames}: a number of frames played is wanted")
        path = self._write(f"frames_{frames:012d}", state, frames=frames, facts=facts)
        self._remove_old()
        return path

    def save_best(self, weights: Any, *, facts: Mapping[str, Any] | None = None) -> Path:
        """Write, or replace, the weights that did best; checkpoints that are deleted do not take them along.

        Args:
            weights: the network's state, or any other plain state.
            facts: what they achieved, for instance.
        """
        return self._write(_BEST, weights, frames=None, facts=facts)

    def load(self, frames: int | None = None) -> tuple[Any, dict[str, Any]]:
        """State and manifest of the newest checkpoint that is whole.

        Newer ones that are damaged are skipped with a warning in the log that says which and why.

        Args:
            frames: a certain checkpoint instead, and no other.
        """
        skipped = []
        if frames is not None:
            wanted = f"frames_{frames:012d}"
            paths = [path for path in self._paths() if path.name.removeprefix("replaced_") == wanted]
        else:
            wanted = "frames_*"
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
        have = ", ".join(str(found["frames"]) for found in self.list()) or "none"
        raise CheckpointError(
            f"no whole checkpoint in {self.folder}: looked for {wanted} with {MANIFEST} and {_STATE}"
            + (f"; damaged: {'; '.join(skipped)}" if skipped else "")
            + (f"; there are those of these frames: {have}" if frames is not None else "")
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
        raise CheckpointError(f"no best weights in {self.folder}: looked for {_BEST}, which save_best writes")

    def list(self) -> Manifests:
        """Manifests of the checkpoints, newest first; of those only that have all their bytes."""
        found = [manifest for path in self._paths() if (manifest := self._glance(path)) is not None]
        return sorted(found, key=lambda manifest: manifest["serial"], reverse=True)

    def _write(self, name: str, state: Any, *, frames: int | None, facts: Mapping[str, Any] | None) -> Path:
        start = time.perf_counter()
        plain_facts = as_json(facts or {}, name="facts")
        content = packed(to_plain(state))
        path, partial = self.folder / name, self.folder / f"partial_{name}"
        replaced = self.folder / f"replaced_{name}"
        with explaining(f"the checkpoint {name}", self.folder, error=CheckpointError):
            self.folder.mkdir(parents=True, exist_ok=True)
            serial = 1 + int(max((self._age(found)[0] for found in self._paths()), default=0))
            shutil.rmtree(partial, ignore_errors=True)
            try:
                partial.mkdir()
                written = write_file(partial / _STATE, [content])
                flush_file(partial / _STATE)
                manifest = {
                    "version": _VERSION,
                    "serial": serial,
                    "frames": frames,
                    "facts": plain_facts,
                    "bytes": written["bytes"],
                    "seconds": round(time.perf_counter() - start, 4),
                    "files": {_STATE: written},
                }
                write_manifest(partial / MANIFEST, manifest)
                if path.exists():
                    shutil.rmtree(replaced, ignore_errors=True)
                    rename(path, replaced)
                rename(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    if replaced.exists() and not path.exists():
                        rename(replaced, path)
                shutil.rmtree(partial, ignore_errors=True)
                raise
            flush_folder(self.folder)
        remove_folder(replaced)
        _LOG.info("%s: %.1f MB in %.2f s", path, written["bytes"] / 1e6, time.perf_counter() - start)
        return path

    def _read(self, path: Path) -> tuple[Any, dict[str, Any]]:
        try:
            manifest = read_manifest(path / MANIFEST, version=_VERSION)
            for name, facts in manifest["files"].items():
                check_file(path / name, facts)
            state = from_plain(unpacked(path / _STATE))
        except (DamagedFileError, ValueError, OSError, EOFError, RuntimeError, pickle.UnpicklingError) as problem:
            raise CheckpointError(str(problem) or type(problem).__name__) from problem
        return state, {**manifest, "path": str(path)}

    def _glance(self, path: Path) -> dict[str, Any] | None:
        """The manifest, if the files have the sizes that it tells."""
        try:
            manifest = read_manifest(path / MANIFEST, version=_VERSION)
            if all((path / name).stat().st_size == facts["bytes"] for name, facts in manifest["files"].items()):
                return {**manifest, "path": str(path)}
        except (DamagedFileError, ValueError, OSError):
            pass
        return None

    def _paths(self) -> Paths:
        """Folders of checkpoints; one that was being replaced when the process ended, if the new one is not there."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _CHECKPOINT.fullmatch(path.name) and path.is_dir()]
        proper = {path.name for path in found if path.name.startswith("frames_")}
        return [path for path in found if path.name in proper or path.name.removeprefix("replaced_") not in proper]

    def _age(self, path: Path) -> tuple[float, int]:
        """Order of saving; a checkpoint that does not tell it goes by its frames, among those that do."""
        match = _CHECKPOINT.fullmatch(path.name)
        frames = int(match[1]) if match else 0
        try:
            return read_manifest(path / MANIFEST, version=_VERSION)["serial"], frames
        except (DamagedFileError, ValueError):
            known = [found["serial"] for found in self.list() if found["frames"] < frames]
            return max(known, default=0) + 0.5, frames

    def _remove_old(self) -> None:
        """Delete what is older than the last few whole checkpoints, and what killed processes left behind."""
        whole = self.list()[: self.keep]
        if len(whole) == self.keep:
            oldest = whole[-1]["serial"]
            for path in self._paths():
                if self._age(path)[0] < oldest:
                    remove_folder(path)
        for path in self.folder.iterdir():
            replaced = _REPLACED.fullmatch(path.name)
            if _LEFT_OVER.fullmatch(path.name) or (replaced and (self.folder / replaced[1]).exists()):
                shutil.rmtree(path, ignore_errors=True)
