"""Saving a replay whose shards each write their own part."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tm_torchrl.data.saving.atomic_files import explained_disk_errors
from tm_torchrl.data.saving.replay_log import Appended, ReplayLog
from tm_torchrl.data.sharded.shard import MARK

if TYPE_CHECKING:
    from tm_torchrl.data.sharded.replay import ShardedReplay

SAVE_TIMEOUT_S = 600.0


class SavedShard:
    """What stands for a shard's buffer, which is elsewhere, when the replay is saved.

    Args:
        replay: Asks the shard.
        number: Of the shard.
    """

    def __init__(self, replay: ShardedReplay, number: int) -> None:
        self.replay, self.number = replay, number

    def empty(self) -> None:
        """Forget what the shard holds; one that does not answer holds nothing."""
        with contextlib.suppress(OSError):
            self.ask("empty")

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the shard answers; raises ``OSError`` if it does not."""
        return self.replay.shards.ask(self.number, method, *arguments, timeout_s=SAVE_TIMEOUT_S)


class ShardLog:
    """As ``ReplayLog``, for a shard, which writes and reads the folder itself; its machine must share it.

    Args:
        folder: The shard's part of the run's replay.
        shard: What stands for the shard.
    """

    def __init__(self, folder: Path, shard: SavedShard) -> None:
        self.folder, self.shard = folder, shard

    def append(
        self, shard: SavedShard, *, facts: Mapping[str, Any] | None = None, in_background: bool = False
    ) -> Appended:
        """Save what is new; see ``ReplayLog.append``."""
        return cast(Appended, self._ask(shard, "save", facts or {}, in_background))

    def restore(self, shard: SavedShard) -> int:
        """Read the shard's part; see ``ReplayLog.restore``."""
        if not self.folder.is_dir():
            raise FileNotFoundError(f"folder={self.folder}: no saved replay")
        return int(self._ask(shard, "restore"))

    def wait(self) -> None:
        """Wait for an append in the background; raises the error if it failed."""
        self.shard.ask("wait")

    def _ask(self, shard: SavedShard, method: str, *arguments: Any) -> Any:
        mark = uuid.uuid4().hex
        with explained_disk_errors("the replay", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / MARK).write_text(mark, encoding="utf-8")
        try:
            return shard.ask(method, str(self.folder.resolve()), mark, *arguments)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"shard {shard.number}: {error}") from error


def make_log(folder: Path, part: Any) -> ReplayLog | ShardLog:
    """What saves a part of a memory.

    Args:
        folder: Where it is saved.
        part: One of a memory's ``contents()``.
    """
    return ShardLog(folder, part) if isinstance(part, SavedShard) else ReplayLog(folder)
