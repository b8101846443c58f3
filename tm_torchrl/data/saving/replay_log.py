"""``ReplayLog``: a replay buffer on disk that grows by what was added, and is whole at any moment."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torchrl.data import ReplayBuffer, RoundRobinWriter, Storage

from tm_torchrl.data.saving import segment as segments
from tm_torchrl.data.saving import whole_files
from tm_torchrl.data.saving.buffer_settings import check_settings, settings_of
from tm_torchrl.data.saving.buffer_state import close_ranks, fresh_state, load_state_without_rows, state_without_rows
from tm_torchrl.data.saving.log_folder import LogFolder
from tm_torchrl.data.saving.plain_state import from_plain, to_plain
from tm_torchrl.data.saving.saved_buffer import DamagedBufferError
from tm_torchrl.data.saving.segment import Move, Piece, Segment

_LOG = logging.getLogger("tm_torchrl.data")
_HEADROOM = 4  # rows of the oldest quarter of a full buffer may be overwritten soon: they are never left for later


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
    are deleted. Reading the folder runs nothing that stands in it. ``benchmarks/bench_saving.py`` measures all this.

    Rows are taken to stay as they were written: change them in place, and the log does not notice. Of a buffer that it
    does not know (a new one, one that was emptied, one of another capacity) it writes everything anew. No other process
    may write into the buffer during an append, nor into the folder at any time.

    Args:
        folder: made if need be; files of other names in it are left alone.
        segment_rows: rows of a segment file at most. Smaller ones are deleted sooner and lose less when damaged.

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

    def __init__(self, folder: str | Path, *, segment_rows: int = 16_384) -> None:
        if segment_rows < 1:
            raise ValueError(f"segment_rows={segment_rows}: a segment holds at least one row")
        self.folder = Path(folder)
        self.segment_rows = segment_rows
        self._disk = LogFolder(self.folder, error=DamagedBufferError)
        self._storage: weakref.ref[Storage] | None = None  # whose rows the manifest tells
        self._manifest: dict[str, Any] = {}
        self._last_row: int | None = None  # checksum
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None

    def append(
        self, buffer: ReplayBuffer, *, facts: Mapping[str, Any] | None = None, in_background: bool = False
    ) -> Appended:
        """Save what was added to a buffer since the last append, and its present state.

        Args:
            buffer: with a storage of one dimension that is written in turn.
            facts: kept in the manifest for ``facts``: frames played, for instance.
            in_background: whether a thread writes the rows while the caller goes on. It needs no copy of them, since
                the rows that came last are the last to be overwritten; that they were not is checked. If it fails, the
                next append says so in the log and is done in the foreground. Call ``wait`` before the program ends.
        """
        start = time.perf_counter()
        try:
            self.wait()
        except Exception as problem:
            _LOG.warning("the last append to %s failed and is made up for now: %s", self.folder, problem)
            in_background = False
        segments.check_storage(buffer.storage)
        if not isinstance(buffer.writer, RoundRobinWriter):
            raise ValueError(f"buffer: a {type(buffer.writer).__name__}; rows written in turn are wanted")
        plain_facts = whole_files.as_json(facts or {}, name="facts")
        with whole_files.explaining("the replay", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            number = self._disk.next_number()
            writing = _Writing(buffer, self._disk, number)
            try:
                with buffer._capture_prefetch_state(clone_queue=False) as ahead, buffer._write_lock:
                    manifest, state = _describe(buffer, ahead, plain_facts)
                    kept = self._kept(buffer.storage, manifest)
                    writing.plan(manifest, kept, segment_rows=self.segment_rows)
                    writing.write_now(is_all=not in_background)
                    last_row = _checksum_of_row(buffer.storage, manifest["end"] - 1, manifest)
            except BaseException:
                self._disk.discard(number)
                raise

        def finish() -> None:
            with whole_files.explaining("the replay", self.folder):
                try:
                    writing.finish(manifest, kept, state)
                except BaseException:
                    self._disk.discard(number)
                    raise
            self._storage, self._manifest, self._last_row = weakref.ref(buffer.storage), manifest, last_row

        if in_background:
            self._thread = threading.Thread(target=self._try, args=(finish,), name="replay log", daemon=False)
            self._thread.start()
        else:
            finish()
        num_bytes = len(state) + sum(piece.bytes for piece in writing.pieces)
        return Appended(
            rows=sum(piece.rows for piece in writing.pieces),
            bytes=num_bytes,
            seconds=time.perf_counter() - start,
            total_bytes=num_bytes + sum(found.bytes for found in kept),
        )

    def restore(self, buffer: ReplayBuffer, *, salvage: bool = False) -> Restored:
        """Fill a buffer; its next samples are those that the saved one would have drawn.

        Everything is checked before the buffer is changed.

        Args:
            buffer: built with the same settings as the saved one; only the batch size may be another.
            salvage: whether to do without files that are damaged, rather than refuse. Rows that are left keep their
                order and priorities. Without the state, priorities are those of new rows and generators go on from
                where the buffer's stand. Samples are others then.
        """
        self.wait()
        if not self._disk.exists():
            raise FileNotFoundError(f"folder={self.folder}: no saved replay ({whole_files.MANIFEST} is missing)")
        manifest = self._disk.manifest()
        storage, layout = buffer.storage, manifest["layout"]
        segments.check_storage(storage)
        check_settings(manifest["settings"], settings_of(buffer), what="the saved replay")
        if storage.initialized and layout["rows"] and layout != segments.layout_of(storage):
            raise ValueError(f"buffer: rows of {segments.layout_of(storage)}; the saved replay has {layout}")
        state, live = self._whole_files(manifest, salvage=salvage)
        num, capacity, offset = sum(stop - start for _, start, stop in live), storage.max_size, manifest["offset"]
        is_all = state is not None and num == manifest["rows"]
        places = [(start + offset) % capacity for _, start, _ in live]
        if not is_all:
            places = list(itertools.accumulate((stop - start for _, start, stop in live), initial=0))
        self._storage = None
        if manifest["rows"]:
            segments.prepare(storage, layout)
        if state is None:
            load_state_without_rows(buffer, fresh_state(buffer, num))
        elif is_all:
            load_state_without_rows(buffer, state)
        else:
            positions = [(row + offset) % capacity for _, start, stop in live for row in range(start, stop)]
            load_state_without_rows(buffer, close_ranks(buffer, state, positions))
        for (found, start, stop), place in zip(live, places, strict=False):
            moves, skip = [], start - found.first
            for left, right in segments.spans(place, stop - start, capacity=capacity):
                moves.append(Move(skip, right - left, left))
                skip += right - left
            segments.read_segment(self.folder / found.file, storage, layout, found, moves)
        segments.finish(storage, num)
        if state is None and num:
            buffer.sampler.mark_update(torch.arange(num), storage=storage)
        if is_all:
            self._storage, self._manifest = weakref.ref(storage), manifest
            self._last_row = _checksum_of_row(storage, manifest["end"] - 1, manifest)
        return Restored(num, manifest["rows"] - num)

    def facts(self) -> dict[str, Any] | None:
        """The facts given to the append that ``restore`` would bring back; ``None`` if nothing has been saved."""
        self.wait()
        found: dict[str, Any] | None = self._disk.manifest()["facts"] if self._disk.exists() else None
        return found

    def wait(self) -> None:
        """Wait for the thread of an append in the background; raises what it ran into."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def _whole_files(
        self, manifest: dict[str, Any], *, salvage: bool
    ) -> tuple[dict[str, Any] | None, list[tuple[Segment, int, int]]]:
        """The state, if it is whole; whole segments with the first of their rows that counts and the end."""
        state, live = None, []
        first = manifest["end"] - manifest["rows"]
        for facts in (manifest["state"], *manifest["segments"]):
            is_state = facts is manifest["state"]
            what = "priorities and generators" if is_state else f"{facts['rows']} rows"
            path = self.folder / facts["file"]
            try:
                whole_files.check_file(path, facts, error=DamagedBufferError)
            except DamagedBufferError as problem:
                if not salvage:
                    raise DamagedBufferError(
                        f"{problem}. It holds {what}; restore(buffer, salvage=True) does without"
                    ) from problem
                _LOG.warning("%s: %s are lost", problem, what)
            else:
                if is_state:
                    state = from_plain(whole_files.unpacked(path))
                else:
                    live.append((Segment(**facts), max(facts["first"], first), facts["first"] + facts["rows"]))
        return state, live

    def _kept(self, storage: Storage, manifest: dict[str, Any]) -> list[Segment]:
        """Segments that go on being needed, if this buffer is what they were written from."""
        before = self._manifest
        if self._storage is None or self._storage() is not storage or not before:
            return []
        first, end = manifest["end"] - manifest["rows"], before["end"]
        is_same = before["layout"] == manifest["layout"] or not before["rows"]
        if not is_same or before["offset"] != manifest["offset"] or not end <= manifest["end"] or first >= end:
            return []
        if before["rows"] and _checksum_of_row(storage, end - 1, before) != self._last_row:
            return []  # emptied and filled again meanwhile
        kept = [found for entry in before["segments"] if (found := Segment(**entry)).end > first]
        if kept and kept[-1].rows < self.segment_rows // 4 and manifest["end"] > end:
            kept.pop()  # so that appends of a few rows do not leave a crowd of small files
        is_there = all(self._disk.size(found.file) == found.bytes for found in kept)
        return kept if is_there and (not kept or kept[0].first <= first) else []

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
        self.pieces: list[Piece] = []
        self.written: list[Segment] = []

    def plan(self, manifest: dict[str, Any], kept: Sequence[Segment], *, segment_rows: int) -> None:
        """Say what will be written, and of which slots."""
        storage, end = self.buffer.storage, manifest["end"]
        self.oldest = end - storage.max_size
        for first in range(kept[-1].end if kept else end - manifest["rows"], end, segment_rows):
            file = f"segment_{self.number + len(self.pieces):09d}.rows"
            rows = min(segment_rows, end - first)
            where = segments.spans(first + manifest["offset"], rows, capacity=storage.max_size)
            self.pieces.append(segments.piece_of(storage, file, first, where))

    def write_now(self, *, is_all: bool) -> None:
        """Write what may be overwritten soon, or everything."""
        safe_from = self.oldest + self.buffer.storage.max_size // _HEADROOM
        for piece in self.pieces:
            if is_all or piece.first < safe_from:
                self._write(piece)

    def finish(self, manifest: dict[str, Any], kept: Sequence[Segment], state: memoryview) -> None:
        """Write the rest, and let the manifest name it all."""
        later = self.pieces[len(self.written) :]
        for piece in later:
            self._write(piece)
        if later and not self._are_here(manifest, later[0].first):
            raise whole_files.SavingError(
                "rows were overwritten before the thread had written them: the buffer is too small, or the disk too "
                "slow, for in_background=True"
            )
        facts = whole_files.write_file(self.disk.path / self.state_file, [state])
        manifest["state"] = {"file": self.state_file, **facts}
        manifest["segments"] = [found._asdict() for found in (*kept, *self.written)]
        self.disk.commit(manifest, [self.state_file, *(found.file for found in self.written)])

    def _write(self, piece: Piece) -> None:
        written = whole_files.write_file(self.disk.path / piece.file, segments.parts(self.buffer.storage, piece))
        self.written.append(Segment(piece.file, piece.first, piece.rows, len(piece.slots), **written))

    def _are_here(self, manifest: dict[str, Any], first: int) -> bool:
        """Whether rows from a number on still stand where they stood."""
        writer, capacity = self.buffer.writer, self.buffer.storage.max_size
        count, cursor = writer._write_count, writer._cursor
        is_same = count >= manifest["end"] and (cursor - count - manifest["offset"]) % capacity == 0
        return is_same and count - capacity <= first


def _describe(buffer: ReplayBuffer, ahead: dict[str, Any], facts: dict[str, Any]) -> tuple[dict[str, Any], memoryview]:
    """The manifest without files, and the packed state; under the buffer's locks."""
    storage, cursor = buffer.storage, buffer.writer._cursor
    rows, end, capacity = len(storage), buffer.writer._write_count, storage.max_size
    offset = (cursor - end) % capacity
    if rows < capacity and cursor != rows:
        raise ValueError(
            f"buffer: {rows} rows with the cursor at {cursor}: they were not written in turn (write_at); save_buffer "
            "saves such a buffer"
        )
    manifest = {
        "settings": settings_of(buffer),
        "layout": segments.layout_of(storage),
        "rows": rows,
        "end": end,
        "offset": offset,
        "facts": facts,
    }
    return manifest, whole_files.packed(to_plain(state_without_rows(buffer, ahead), name="buffer.state_dict()"))


def _checksum_of_row(storage: Storage, row: int, manifest: dict[str, Any]) -> int | None:
    if not manifest["rows"]:
        return None
    return segments.checksum_of_row(storage, (row + manifest["offset"]) % storage.max_size)
