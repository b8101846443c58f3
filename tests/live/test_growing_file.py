"""Files of JSON lines are read as they grow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tm_torchrl.live.growing_file import MOST_BYTES, GrowingFile
from tm_torchrl.record.run_folder import append_line, truncate_lines


def test_only_complete_lines_are_read_and_each_once(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "rows.jsonl")
    file.refresh()
    assert file.rows == []
    for text, rows in (
        ('{"a": 1}\n', [1]),
        ('{"a": 2}\n{"a"', [1, 2]),
        (": 3}", [1, 2]),
        ("\n", [1, 2, 3]),
        ('?\n7\n\n{"a": 4}\n', [1, 2, 3, 4]),
    ):
        with open(file.path, "a", encoding="utf-8") as writer:
            writer.write(text)
        file.refresh()
        assert [row["a"] for row in file.rows] == rows


def test_a_resumed_run_is_read_again(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "rows.jsonl")
    for frames in (1, 2, 3):
        append_line(file.path, {"frames": frames})
    file.refresh()
    truncate_lines(file.path, 1)
    append_line(file.path, {"frames": 20})
    append_line(file.path, {"frames": 30})  # as long as it was
    file.refresh()
    assert [row["frames"] for row in file.rows] == [1, 20, 30]
    file.path.write_text("")
    file.refresh()
    assert file.rows == []
    file.path.unlink()
    file.refresh()
    assert file.rows == []


def test_a_file_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(OSError, match="at most"):
        GrowingFile(path).refresh()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_not_followed(tmp_path: Path) -> None:
    append_line(tmp_path / "elsewhere.jsonl", {"secret": 1})
    (tmp_path / "rows.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    file = GrowingFile(tmp_path / "rows.jsonl")
    file.refresh()
    assert file.rows == []
