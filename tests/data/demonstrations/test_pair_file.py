"""Files of pairs: written and read, and refused by line where the two segments are no pair."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.demonstrations import made_laps
from tm_torchrl.data import DemonstrationFolder, PairFile
from tm_torchrl.data.demonstrations.pair_file import Segment, write_pairs
from tm_torchrl.data.demonstrations.writer import DemonstrationWriter

FIRST, SECOND = Segment("a", 1, 4, 3), Segment("b", 0, 4, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Laps of 6 and 8 frames in ``a``; ``b`` has the second of them, with another action from its step 5 on."""
    made_laps.write(tmp_path / "a", [[6, 8]])
    second = made_laps.lap(6, 8)
    played = np.where(np.arange(8) < 5, second.action, 11 - second.action)
    writer = DemonstrationWriter(tmp_path / "b", made_laps.description())
    writer.add([dataclasses.replace(second, action=played)], num_attempts=1)
    return tmp_path


def line(**changes: dict[str, Any]) -> str:
    values = {"preferred": dataclasses.asdict(FIRST), "rejected": dataclasses.asdict(SECOND)}
    return json.dumps({side: {**values[side], **changes.get(side, {})} for side in values})


def test_what_is_written_is_read(folder: Path) -> None:
    write_pairs(folder / "pairs.jsonl", [(FIRST, SECOND), (SECOND, FIRST)])
    file = PairFile(folder / "pairs.jsonl", DemonstrationFolder)
    assert file.pairs == [(FIRST, SECOND), (SECOND, FIRST)] and set(file.folders) == {"a", "b"}
    assert file.frames_of(FIRST).tolist() == [10, 11, 12], "lap 1 of a begins with frame 6"
    assert (folder / "pairs.jsonl").read_text().splitlines()[0] == line()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "is no JSON"),
        ("[1, 2]", "preferred and rejected"),
        ("[" * 100_000, "is no JSON"),
        (line(preferred={"lap": -1}), r"preferred\.lap='-1'"),
        (line(preferred={"lap": True}), r"preferred\.lap='True'"),
        (line(preferred={"steps": 0}), r"preferred\.steps='0'"),
        (line(preferred={"code": "x"}), "preferred: must be an object with folder, lap, step, steps"),
        (line(rejected={"folder": 3}), r"rejected\.folder='3'"),
        (line(rejected={"folder": "nowhere"}), "nowhere: does not exist"),
        (line(rejected={"lap": 1}), r"rejected\.lap=1: b has 1 laps"),
        (line(preferred={"steps": 5}), "preferred: steps 4 to 9 of lap 1 of a, which has 8"),
        (line(preferred={"lap": 0, "steps": 2}), "begin in different states"),  # another start
        (line(preferred={"step": 5}), "begin in different states"),  # another step
        (line(preferred={"step": 6, "steps": 2}, rejected={"step": 6}), "begin in different states"),  # other actions
    ],
)
def test_what_is_no_pair_is_refused_by_its_line(folder: Path, text: str, message: str) -> None:
    (folder / "pairs.jsonl").write_text(f"{line()}\n{text}\n")
    with pytest.raises(ValueError, match=rf"pairs\.jsonl: line 2: .*{message}") as caught:
        PairFile(folder / "pairs.jsonl", DemonstrationFolder)
    assert "\n" not in str(caught.value)


def test_segments_may_begin_after_equal_actions(folder: Path) -> None:
    """Step 5 is the first that differs; the state before it is the same."""
    text = line(preferred={"step": 5}, rejected={"step": 5})
    (folder / "pairs.jsonl").write_text(text)
    assert len(PairFile(folder / "pairs.jsonl", DemonstrationFolder).pairs) == 1


def test_other_files_are_refused(folder: Path) -> None:
    (folder / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"empty\.jsonl: has no pairs"):
        PairFile(folder / "empty.jsonl", DemonstrationFolder)
    with pytest.raises(ValueError, match=r"none\.jsonl: no file of pairs .*tm-torchrl pairs"):
        PairFile(folder / "none.jsonl", DemonstrationFolder)
    (folder / "a" / "part_00000" / "action.npy").write_bytes(b"x")
    (folder / "pairs.jsonl").write_text(line())
    with pytest.raises(ValueError, match=r"line 1: .*action\.npy"):
        PairFile(folder / "pairs.jsonl", DemonstrationFolder)
