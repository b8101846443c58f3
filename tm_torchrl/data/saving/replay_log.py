"""``ReplayLog``: a replay buffer on disk; each save writes only what was added, and a kill never damages it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from torchrl.data import ReplayBuffer, RoundRobinWriter, Storage

from tm_torchrl.data.saving import atomic_files
from tm_torchrl.data.saving import segment as segments
from tm_torchrl.data.saving.atomic_files import DamagedFileError
from tm_torchrl.data.saving.buffer_state import load_state_without_rows, state_without_rows
from tm_torchrl.data.saving.log_folder import LogFolder
from tm_torchrl.data.saving.plain_state import load_state, state_to_bytes
from tm_torchrl.data.saving.segment import Move, PlannedSegment, Segment
from tm_torchrl.data.storage.buffer_settings import check_settings, settings_of

_LOG = logging.getLogger("tm_torchrl.data")
_HEADROOM = 4  # the oldest quarter of a full buffer may be overwritten soon: its rows are always written at once


class Appended(TypedDict):
    """What an append wrote."""

    rows: int
    bytes: int
    seconds: float  # that the caller waited


class ReplayLog:
    """Saves a replay buffer repeatedly and writes only what was added since the last time.

    Rows go into segment files that never change. Priorities, generators, pending n-step steps and prefetched batches go
    into one small file. A manifest with checksums names all files and is replaced last, so a process that is killed at
    any moment leaves the previous state or the new one. Segments whose rows have all been overwritten in the buffer
    are deleted. Nothing in the folder is ever executed.

    The log assumes that rows stay as they were written and does not notice changes in place. A buffer that it does not
    know (a new or emptied one, or one of another capacity) is written completely. No other process may write into the
    buffer during an append, nor into the folder at any time.

    Args:
        folder: Created if it is missing; files of other names in it are left alone.
        segment_rows: Most rows of a segment file. Smaller segments are deleted sooner.

    Examples:
        >>> import tempfile, torch
        >>> from tensordict import TensorDict
        >>> from tm_torchrl.data import make_replay_buffer
        >>> one, two = (make_replay_buffer(capacity=9, batch_size=2, sampler="prioritized", seed=0) for _ in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = ReplayLog(folder)
        ...     for start in (0, 5):
        ...         _ = one.extend(TensorDict({"x": torch.arange(start, start + 5)}, [5]))
        ...         _ = log.append(one)
        ...     ReplayLog(folder).restore(two)
        9
        >>> torch.equal(one.sample()["x"], two.sample()["x"])
        True
    """

    def __init__(self, folder: str | Path, *, segment_rows: int = 16_384) -> None:
        if segment_rows < 1:
            raise ValueError(f"segment_rows={segment_rows}: must be at least 1")
        self.folder = Path(folder)
        self.segment_rows = segment_rows
        self._disk = LogFolder(self.folder)
        self._storage: weakref.ref[Storage] | None = None  # whose rows the manifest describes
        self._manifest: dict[str, Any] = {}
        self._last_row: int | None = None  # checksum
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None

    def append(
        self, buffer: ReplayBuffer, *, facts: Mapping[str, Any] | None = None, in_background: bool = False
    ) -> Appended:
        """Save the rows that were added to a buffer since the last append, and the buffer's present state.

        Args:
            buffer: A buffer with a storage of one dimension and a round-robin writer.
            facts: JSON values that are kept in the manifest, such as the number of played frames.
            in_background: Lets a thread write the rows while the caller continues. The thread does not copy them,
                because the newest rows are the last to be overwritten; it checks that none were. If it fails, the next
                append logs the error and runs in the foreground. Call ``wait`` before the program ends.
        """
        start = time.perf_counter()
        try:
            self.wait()
        except Exception as problem:
            _LOG.warning("the last append to %s failed and is repeated now: %s", self.folder, problem)
            in_background = False
        segments.check_storage(buffer.storage)
        if not isinstance(buffer.writer, RoundRobinWriter):
            raise ValueError(f"buffer: its writer is a {type(buffer.writer).__name__}; must be a RoundRobinWriter")
        plain_facts = atomic_files.as_json(facts or {}, name="facts")
        with atomic_files.explained_disk_errors("the replay", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            number = self._disk.next_number()
        writing = _Writing(buffer, self._disk, number)
        with (
            self._discarding_on_failure(number),
            buffer._capture_prefetch_state(clone_queue=False) as prefetched,
            buffer._write_lock,
        ):
            manifest, state = _describe(buffer, prefetched, plain_facts)
            kept = self._kept(buffer.storage, manifest)
            writing.plan(manifest, kept, segment_rows=self.segment_rows)
            writing.write_now(is_all=not in_background)
            last_row = _checksum_of_row(buffer.storage, manifest["end"] - 1, manifest)

        def finish() -> None:
            with self._discarding_on_failure(number):
                writing.finish(manifest, kept, state)
            self._storage, self._manifest, self._last_row = weakref.ref(buffer.storage), manifest, last_row

        if in_background:
            self._thread = threading.Thread(target=self._try, args=(finish,), name="replay log", daemon=False)
            self._thread.start()
        else:
            finish()
        return Appended(
            rows=sum(segment.rows for segment in writing.planned),
            bytes=len(state) + sum(segment.bytes for segment in writing.planned),
            seconds=time.perf_counter() - start,
        )

    def restore(self, buffer: ReplayBuffer) -> int:
        """Fill a buffer, whose next samples are then those that the saved one would have drawn; returns its rows.

        Everything is checked before the buffer is changed; a damaged file is an error.

        Args:
            buffer: A buffer with the settings of the saved one; only the batch size may differ.
        """
        self.wait()
        if not self._disk.exists():
            raise FileNotFoundError(f"folder={self.folder}: no saved replay ({atomic_files.MANIFEST} is missing)")
        manifest = self._disk.manifest()
        storage, layout = buffer.storage, manifest["layout"]
        segments.check_storage(storage)
        check_settings(manifest["settings"], settings_of(buffer), what="the saved replay")
        if storage.initialized and layout["rows"] and layout != segments.layout_of(storage):
            raise ValueError(f"buffer: its rows are {segments.layout_of(storage)}; the saved replay has {layout}")
        state, live = self._checked_files(manifest)
        capacity, offset = storage.max_size, manifest["offset"]
        self._storage = None
        if manifest["rows"]:
            segments.prepare(storage, layout)
        load_state_without_rows(buffer, state)
        for found, start, stop in live:
            moves, skip = [], start - found.first
            for left, right in segments.spans((start + offset) % capacity, stop - start, capacity=capacity):
                moves.append(Move(skip, right - left, left))
                skip += right - left
            segments.read_segment(self.folder / found.file, storage, found, moves)
        segments.finish(storage, manifest["rows"])
        self._storage, self._manifest = weakref.ref(storage), manifest
        self._last_row = _checksum_of_row(storage, manifest["end"] - 1, manifest)
        rows: int = manifest["rows"]
        return rows

    def facts(self) -> dict[str, Any] | None:
        """The facts of the append that ``restore`` would bring back; ``None`` if nothing has been saved."""
        self.wait()
        found: dict[str, Any] | None = self._disk.manifest()["facts"] if self._disk.exists() else None
        return found

    def wait(self) -> None:
        """Wait for an append in the background; raises the error if it failed."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def _checked_files(self, manifest: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[Segment, int, int]]]:
        """The state, and the segments with the first and the end of their valid rows."""
        state, first = manifest["state"], manifest["end"] - manifest["rows"]
        for facts in (state, *manifest["segments"]):
            what = "the priorities and generators" if facts is state else f"{facts['rows']} rows"
            try:
                atomic_files.check_file(self.folder / facts["file"], facts)
            except DamagedFileError as problem:
                raise DamagedFileError(
                    f"{problem}. It holds {what}: copy it from a backup, or fill the buffer again"
                ) from problem
        live = [
            (Segment(**facts), max(facts["first"], first), facts["first"] + facts["rows"])
            for facts in manifest["segments"]
        ]
        return load_state(self.folder / state["file"]), live

    def _kept(self, storage: Storage, manifest: dict[str, Any]) -> list[Segment]:
        """Segments that are still needed, if this is the buffer that they were written from."""
        before = self._manifest
        if self._storage is None or self._storage() is not storage or not before:
            return []
        first, end = manifest["end"] - manifest["rows"], before["end"]
        is_same = before["layout"] == manifest["layout"] or not before["rows"]
        if not is_same or before["offset"] != manifest["offset"] or not end <= manifest["end"] or first >= end:
            return []
        if before["rows"] and _checksum_of_row(storage, end - 1, before) != self._last_row:
            return []  # the buffer was emptied and filled again meanwhile
        kept = [found for entry in before["segments"] if (found := Segment(**entry)).end > first]
        if kept and kept[-1].rows < self.segment_rows // 4 and manifest["end"] > end:
            kept.pop()  # so that appends of a few rows do not leave many small files
        is_there = all(self._disk.size(found.file) == found.bytes for found in kept)
        return kept if is_there and (not kept or kept[0].first <= first) else []

    @contextlib.contextmanager
    def _discarding_on_failure(self, number: int) -> Iterator[None]:
        with atomic_files.explained_disk_errors("the replay", self.folder):
            try:
                yield
            except BaseException:
                self._disk.discard(number)
                raise

    def _try(self, commit: Any) -> None:
        try:
            commit()
        except BaseException as problem:
            self._problem = problem


class _Writing:
    """The files of one append."""

    def __init__(self, buffer: ReplayBuffer, disk: LogFolder, number: int) -> None:
        self.buffer = buffer
        self.disk = disk
        self.state_file = f"state_{number:09d}.pt"
        self.number = number
        self.planned: list[PlannedSegment] = []
        self.written: list[Segment] = []

    def plan(self, manifest: dict[str, Any], kept: Sequence[Segment], *, segment_rows: int) -> None:
        """Choose the segments that will be written, and the slots that they use."""
        storage, end = self.buffer.storage, manifest["end"]
        self.oldest = end - storage.max_size
        for first in range(kept[-1].end if kept else end - manifest["rows"], end, segment_rows):
            file = f"segment_{self.number + len(self.planned):09d}.rows"
            rows = min(segment_rows, end - first)
            where = segments.spans(first + manifest["offset"], rows, capacity=storage.max_size)
            self.planned.append(segments.plan_segment(storage, file, first, where))

    def write_now(self, *, is_all: bool) -> None:
        """Write the rows that may be overwritten soon, or all rows."""
        safe_from = self.oldest + self.buffer.storage.max_size // _HEADROOM
        for segment in self.planned:
            if is_all or segment.first < safe_from:
                self._write(segment)

    def finish(self, manifest: dict[str, Any], kept: Sequence[Segment], state: memoryview) -> None:
        """Write the remaining rows and the state, then the manifest that names all files."""
        later = self.planned[len(self.written) :]
        for segment in later:
            self._write(segment)
        if later and not self._still_in_place(manifest, later[0].first):
            raise atomic_files.SavingError(
                "rows were overwritten before the thread had written them: the buffer is too small, or the disk too "
                "slow, for in_background=True"
            )
        facts = atomic_files.write_file(self.disk.path / self.state_file, [state])
        manifest["state"] = {"file": self.state_file, **facts}
        manifest["segments"] = [found._asdict() for found in (*kept, *self.written)]
        self.disk.commit(manifest, [self.state_file, *(found.file for found in self.written)])

    def _write(self, planned: PlannedSegment) -> None:
        parts = segments.parts(self.buffer.storage, planned)
        written = atomic_files.write_file(self.disk.path / planned.file, parts)
        self.written.append(Segment(planned.file, planned.first, planned.rows, len(planned.slots), **written))

    def _still_in_place(self, manifest: dict[str, Any], first: int) -> bool:
        """Whether rows from a number on are where they were when the manifest was made."""
        writer, capacity = self.buffer.writer, self.buffer.storage.max_size
        count, cursor = writer._write_count, writer._cursor
        is_same = count >= manifest["end"] and (cursor - count - manifest["offset"]) % capacity == 0
        return is_same and count - capacity <= first


def _describe(
    buffer: ReplayBuffer, prefetched: dict[str, Any], facts: dict[str, Any]
) -> tuple[dict[str, Any], memoryview]:
    """The manifest without files, and the bytes of the state; the caller holds the buffer's locks."""
    storage, cursor = buffer.storage, buffer.writer._cursor
    rows, end, capacity = len(storage), buffer.writer._write_count, storage.max_size
    offset = (cursor - end) % capacity
    if rows < capacity and cursor != rows:
        raise ValueError(
            f"buffer: {rows} rows with the cursor at {cursor}; rows must be written in order, not with write_at"
        )
    manifest = {
        "settings": settings_of(buffer),
        "layout": segments.layout_of(storage),
        "rows": rows,
        "end": end,
        "offset": offset,
        "facts": facts,
    }
    return manifest, state_to_bytes(state_without_rows(buffer, prefetched), name="buffer.state_dict()")


def _checksum_of_row(storage: Storage, row: int, manifest: dict[str, Any]) -> int | None:
    if not manifest["rows"]:
        return None
    return segments.checksum_of_row(storage, (row + manifest["offset"]) % storage.max_size)
