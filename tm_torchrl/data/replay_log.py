"""``ReplayLog``: a replay buffer on disk that grows by what was added, and is whole at any moment."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from torchrl.data import ReplayBuffer, RoundRobinWriter, Storage

from tm_torchrl.data import segment as segments
from tm_torchrl.data import whole_files
from tm_torchrl.data.buffer_settings import check_settings, settings_of
from tm_torchrl.data.buffer_state import close_ranks, load_state_without_rows, state_without_rows
from tm_torchrl.data.plain_state import from_plain, to_plain
from tm_torchrl.data.saved_buffer import DamagedBufferError
from tm_torchrl.data.segment import Move, Segment

_LOG = logging.getLogger("tm_torchrl.data")
_VERSION = 1
_OWN_FILE = re.compile(r"segment_(\d+)\.rows|state_(\d+)\.pt|manifest\.json\.partial")


class Appended(TypedDict):
    """What an append wrote."""

    rows: int
    bytes: int
    seconds: float  # for which the caller waited
    total_bytes: int  # of all that is kept


class Restored(NamedTuple):
    """What a restore brought back."""

    rows: int
    lost: int


class ReplayLog:
    """Saves a replay buffer again and again, writing only what was added since the last time.

    Rows go into segment files that never change; priorities, generators, pending n-step steps and batches sampled
    ahead into one small file. A manifest with checksums names them all and is replaced last, so that a process killed
    at any moment leaves the state before or the new one. Segments whose rows have all been overwritten in the buffer
    are deleted. Nothing in the folder is a pickled object.

    Rows are taken to stay as they were written: change them in place, and the log does not notice. Of a buffer that it
    does not know (a new one, one that was emptied, one of another capacity) it writes everything anew. No other process
    may write into the buffer during an append, nor into the folder at any time.

    Args:
        folder: made if need be; files of other names in it are left alone.
        segment_rows: rows of a segment file at most. Smaller ones are deleted sooner and lose less when damaged.
        in_background: whether a thread waits for the disk and replaces the manifest, while the caller goes on; that
            needs no copy of the rows, since they have been handed to the operating system by then. If it fails, the
            next append says so in the log and is done in the foreground.

    Examples:
        >>> import tempfile, torch
        >>> from tensordict import TensorDict
        >>> from tm_torchrl.data import make_replay_buffer
        >>> one, two = (make_replay_buffer(capacity=9, batch_size=2, prioritized=True, seed=0) for _ in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = ReplayLog(folder)
        ...     for start in (0, 5):
        ...         _ = one.extend(TensorDict({"x": torch.arange(start, start + 5)}, [5]))
        ...         _ = log.append(one)
        ...     ReplayLog(folder).restore(two)
        Restored(rows=9, lost=0)
        >>> torch.equal(one.sample()["x"], two.sample()["x"])
        True
    """

    def __init__(self, folder: str | Path, *, segment_rows: int = 16_384, in_background: bool = False) -> None:
        if segment_rows < 1:
            raise ValueError(f"segment_rows={segment_rows}: a segment holds at least one row")
        self.folder = Path(folder)
        self.segment_rows = segment_rows
        self.in_background = in_background
        self._storage: weakref.ref[Storage] | None = None  # whose rows the manifest tells
        self._manifest: dict[str, Any] = {}
        self._last_row: int | None = None  # checksum
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None

    def append(self, buffer: ReplayBuffer, *, facts: Mapping[str, Any] | None = None) -> Appended:
        """Save what was added to a buffer since the last append, and its present state.

        Args:
            buffer: with a storage of one dimension that is written in turn.
            facts: kept in the manifest for ``facts``: frames played, for instance.
        """
        start = time.perf_counter()
        in_background = self.in_background
        try:
            self.wait()
        except Exception as problem:
            _LOG.warning("the last append to %s failed and is made up for now: %s", self.folder, problem)
            in_background = False
        storage = buffer.storage
        segments.check_storage(storage)
        if not isinstance(buffer.writer, RoundRobinWriter):
            raise ValueError(f"buffer: a {type(buffer.writer).__name__}; rows written in turn are wanted")
        with whole_files.explaining("the replay", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            number = self._next_number()
            try:
                manifest, written, new_files, last_row = self._write(
                    buffer, storage, number, whole_files.as_json(facts or {}, name="facts")
                )
            except BaseException:
                self._remove(number)
                raise

            def commit() -> None:
                self._commit(manifest, new_files, number)
                self._storage, self._manifest, self._last_row = weakref.ref(storage), manifest, last_row

            if not in_background:
                commit()
        if in_background:
            self._thread = threading.Thread(target=self._try, args=(commit,), name="replay log", daemon=False)
            self._thread.start()
        total = sum(entry["bytes"] for entry in (*manifest["segments"], manifest["state"]))
        return Appended(
            rows=written, bytes=sum(new_files.values()), seconds=time.perf_counter() - start, total_bytes=total
        )

    def restore(self, buffer: ReplayBuffer, *, salvage: bool = False) -> Restored:
        """Fill a buffer; its next samples are those that the saved one would have drawn.

        Everything is checked before the buffer is changed.

        Args:
            buffer: built with the same settings as the saved one; only the batch size may be another.
            salvage: whether to do without segments that are damaged, rather than refuse. The other rows keep their
                order and priorities. Samples are others then.
        """
        self.wait()
        path = self.folder / whole_files.MANIFEST
        if not path.exists():
            raise FileNotFoundError(f"folder={self.folder}: no saved replay ({whole_files.MANIFEST} is missing)")
        manifest = whole_files.read_manifest(path, version=_VERSION, error=DamagedBufferError)
        storage = buffer.storage
        segments.check_storage(storage)
        check_settings(manifest["settings"], settings_of(buffer), what="the saved replay")
        if storage.initialized and manifest["layout"]["rows"] and manifest["layout"] != segments.layout_of(storage):
            raise ValueError(
                f"buffer: rows of {segments.layout_of(storage)}; the saved replay has {manifest['layout']}"
            )
        state_file = self.folder / manifest["state"]["file"]
        whole_files.check_file(state_file, manifest["state"], error=DamagedBufferError)
        whole = [Segment(**entry) for entry in manifest["segments"]]
        for found in list(whole):
            try:
                whole_files.check_file(self.folder / found.file, found._asdict(), error=DamagedBufferError)
            except DamagedBufferError as problem:
                if not salvage:
                    raise DamagedBufferError(
                        f"{problem}. It holds {found.rows} rows; restore(buffer, salvage=True) does without"
                    ) from problem
                _LOG.warning("%s: its rows are lost", problem)
                whole.remove(found)
        rows = manifest["rows"]
        first, end = manifest["end"] - rows, manifest["end"]
        live = [(found, max(found.first, first), found.end) for found in whole]
        num_whole = sum(stop - start for _, start, stop in live)
        is_all = num_whole == rows
        state = from_plain(whole_files.unpacked(state_file))
        capacity, offset = storage.max_size, manifest["offset"]
        places = [(start + offset) % capacity for _, start, _ in live]
        if not is_all:
            positions = [(row + offset) % capacity for _, start, stop in live for row in range(start, stop)]
            state = close_ranks(buffer, state, positions)
            places = list(itertools.accumulate((stop - start for _, start, stop in live), initial=0))
        if rows:
            segments.prepare(storage, manifest["layout"])
        load_state_without_rows(buffer, state)
        for (found, start, stop), place in zip(live, places, strict=False):
            moves, skip = [], start - found.first
            for left, right in segments.spans(place, stop - start, capacity=capacity):
                moves.append(Move(skip, right - left, left))
                skip += right - left
            if moves:
                segments.read_segment(self.folder / found.file, storage, manifest["layout"], found, moves)
        segments.finish(storage, num_whole)
        if is_all:
            self._storage, self._manifest = weakref.ref(storage), manifest
            self._last_row = self._checksum_of_row(storage, end - 1, manifest)
        return Restored(num_whole, rows - num_whole)

    def facts(self) -> dict[str, Any] | None:
        """The facts given to the append that ``restore`` would bring back; ``None`` if nothing has been saved."""
        self.wait()
        path = self.folder / whole_files.MANIFEST
        if not path.exists():
            return None
        found: dict[str, Any] = whole_files.read_manifest(path, version=_VERSION, error=DamagedBufferError)["facts"]
        return found

    def wait(self) -> None:
        """Wait for the thread of an append in the background; raises what it ran into."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def _write(
        self, buffer: ReplayBuffer, storage: Storage, number: int, facts: dict[str, Any]
    ) -> tuple[dict[str, Any], int, dict[str, int], int | None]:
        """Write new segments and the state; the manifest that names them, rows, the new files' sizes."""
        with buffer._capture_prefetch_state(clone_queue=False) as ahead, buffer._write_lock:
            state = whole_files.packed(to_plain(state_without_rows(buffer, ahead), name="buffer.state_dict()"))
            rows, end, capacity = len(storage), buffer.writer._write_count, storage.max_size
            first, offset = end - rows, (buffer.writer._cursor - end) % capacity
            if rows < capacity and (first + offset) % capacity:
                raise ValueError(
                    f"buffer: {rows} rows with the cursor at {buffer.writer._cursor}: they were not written in turn "
                    "(write_at); save_buffer saves such a buffer"
                )
            manifest = {
                "version": _VERSION,
                "settings": settings_of(buffer),
                "layout": segments.layout_of(storage),
                "rows": rows,
                "end": end,
                "offset": offset,
                "facts": facts,
            }
            kept = self._kept(storage, manifest)
            new_from = kept[-1].end if kept else first
            new: list[Segment] = []
            for begin in range(new_from, end, self.segment_rows):
                num = min(self.segment_rows, end - begin)
                where = segments.spans(begin + offset, num, capacity=capacity)
                slots = segments.slots_of(storage, where)
                file = f"segment_{number + len(new):09d}.rows"
                written = whole_files.write_file(self.folder / file, segments.parts(storage, where, slots))
                new.append(Segment(file, begin, num, len(slots), **written))
            last_row = self._checksum_of_row(storage, end - 1, manifest)
        file = f"state_{number:09d}.pt"
        manifest["state"] = {"file": file, **whole_files.write_file(self.folder / file, [state])}
        manifest["segments"] = [found._asdict() for found in (*kept, *new)]
        sizes = {file: manifest["state"]["bytes"], **{found.file: found.bytes for found in new}}
        return manifest, end - new_from, sizes, last_row

    def _kept(self, storage: Storage, manifest: dict[str, Any]) -> list[Segment]:
        """Segments that go on being needed, if this buffer is what they were written from."""
        before = self._manifest
        if self._storage is None or self._storage() is not storage or not before:
            return []
        first, end = manifest["end"] - manifest["rows"], before["end"]
        is_same = before["layout"] == manifest["layout"] or not before["rows"]
        if not is_same or before["offset"] != manifest["offset"] or not end <= manifest["end"] or first >= end:
            return []
        if before["rows"] and self._checksum_of_row(storage, end - 1, before) != self._last_row:
            return []  # emptied and filled again meanwhile
        kept = [found for entry in before["segments"] if (found := Segment(**entry)).end > first]
        if kept and kept[-1].rows < self.segment_rows // 4 and manifest["end"] > end:
            kept.pop()  # so that appends of a few rows do not leave a crowd of small files
        is_there = all(_size(self.folder / found.file) == found.bytes for found in kept)
        return kept if is_there and (not kept or kept[0].first <= first) else []

    def _commit(self, manifest: dict[str, Any], new_files: dict[str, int], number: int) -> None:
        """Wait for the disk, replace the manifest, delete what it does not name."""
        with whole_files.explaining("the replay", self.folder):
            try:
                for file in new_files:
                    whole_files.flush_file(self.folder / file)
                whole_files.flush_folder(self.folder)
                whole_files.write_manifest(self.folder / whole_files.MANIFEST, manifest)
            except BaseException:
                if self._named_on_disk() != manifest["state"]["file"]:
                    self._remove(number)
                raise
        named = {manifest["state"]["file"], *(entry["file"] for entry in manifest["segments"])}
        for path in self._own_files():
            if path.name not in named:
                _unlink(path)

    def _try(self, commit: Any) -> None:
        try:
            commit()
        except BaseException as problem:
            self._problem = problem

    def _own_files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if _OWN_FILE.fullmatch(path.name)]

    def _next_number(self) -> int:
        """No file of this number or a higher one exists."""
        matches = (_OWN_FILE.fullmatch(path.name) for path in self._own_files())
        return 1 + max((int(match[1] or match[2] or 0) for match in matches if match), default=0)

    def _named_on_disk(self) -> str | None:
        try:
            path = self.folder / whole_files.MANIFEST
            name: str = whole_files.read_manifest(path, version=_VERSION)["state"]["file"]
            return name
        except (whole_files.DamagedFileError, ValueError, LookupError):
            return None

    def _remove(self, number: int) -> None:
        """Delete the files of an append that failed: they may be what filled the disk."""
        for path in self._own_files():
            match = _OWN_FILE.fullmatch(path.name)
            if match is not None and int(match[1] or match[2] or number) >= number:
                _unlink(path)

    def _checksum_of_row(self, storage: Storage, row: int, manifest: dict[str, Any]) -> int | None:
        if not manifest["rows"]:
            return None
        return segments.checksum_of_row(storage, (row + manifest["offset"]) % storage.max_size)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError as problem:  # Windows: somebody is reading it; the next append tries again
        _LOG.info("%s stays for now: %s", path, problem)
