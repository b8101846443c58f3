"""The memory of recorded laps: each frame once in an epoch, the right labels, whole laps held out."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from tests.data.demonstrations import made_laps
from tm_torchrl.data import DemonstrationFolder, Demonstrations


def memory(path: Path, lengths=((3, 4), (5,)), *, changes=None, **options) -> Demonstrations:
    """Of laps of frames 0..2, 3..6 and 7..11."""
    if not path.exists():
        made_laps.write(path, lengths, **(changes or {}))
    return Demonstrations([DemonstrationFolder(path)], **{"batch_size": 2, "held_out_share": 0.0, **options})


def steps(num: int) -> TensorDict:
    return TensorDict({}, [num, 1])


def frames_of(batch) -> list[int]:
    return batch["observation"][:, 0].long().tolist()


def test_each_frame_comes_once_in_an_epoch_and_pays_for_one(tmp_path: Path) -> None:
    laps = memory(tmp_path / "laps")
    laps.extend(steps(7))  # for three minibatches of two; one frame is left
    first = [frames_of(batch) for batch in laps.batches()]
    assert len(first) == 3
    laps.extend(steps(5))
    rest = [frames_of(batch) for batch in laps.batches()]
    assert sorted(itertools.chain(*first, *rest)) == list(range(12))
    laps.extend(steps(12))
    assert sorted(itertools.chain(*map(frames_of, laps.batches()))) == list(range(12))
    assert laps.metrics()["epoch"] == 2.0
    assert first + rest != [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]


def test_labels_are_choices_and_end_with_the_lap(tmp_path: Path) -> None:
    """In frame f the driver chose f + 1; the second lap ends with frame 6."""
    batch = memory(tmp_path / "laps", offsets=[0, 1, 2]).batch_of(np.array([3, 5, 6, 7]))
    assert batch["action"][:, 0].tolist() == [4, 6, 7, 8]
    assert batch["is_labelled"].tolist() == [
        [True, True, True],
        [True, True, False],
        [True, False, False],
        [True, True, True],
    ]
    assert batch["action"][3].tolist() == [8, 9, 10]


def test_regret_of_drivers_that_weigh_actions_and_of_those_that_do_not(tmp_path: Path) -> None:
    """Frames 0 to 11 have regret 0, 1, 2, ...; of the second folder's frame f only the choice, f + 1, is known."""
    made_laps.write(tmp_path / "weighed", [[12]], weighs_actions=True)
    made_laps.write(tmp_path / "plain", [[5]])
    folders = [DemonstrationFolder(tmp_path / name) for name in ("weighed", "plain")]
    laps = Demonstrations(folders, batch_size=2, held_out_share=0.0, offsets=[0, 1])
    regret = laps.batch_of(np.array([13, 4]))["regret"]
    assert regret.shape == (2, 2, 12)
    assert regret[1].tolist() == [list(range(12))] * 2
    assert regret[0, 0].tolist() == [1000.0, 1000.0, 0.0, *[1000.0] * 9]
    assert regret[0, 1].argmin() == 3
    assert "regret" not in memory(tmp_path / "laps").batch_of(np.array([0]))


def test_whole_laps_are_held_out(tmp_path: Path) -> None:
    """Every third lap of 2 frames: of six laps the third and the sixth."""
    laps = memory(tmp_path / "laps", [[2, 2, 2], [2, 2, 2]], held_out_share=1 / 3)
    assert laps.test_frames.tolist() == [4, 5, 10, 11]
    assert len(laps) == 8
    assert frames_of(laps.test_batch()) == [4, 5, 10, 11]
    assert memory(tmp_path / "laps").test_batch() is None


def test_several_folders_are_one(tmp_path: Path) -> None:
    made_laps.write(tmp_path / "a", [[3], [2]])
    made_laps.write(tmp_path / "b", [[4]])
    folders = [DemonstrationFolder(tmp_path / name) for name in ("a", "b")]
    both = Demonstrations(folders, batch_size=2, held_out_share=0.0, offsets=[0, 1])
    batch = both.batch_of(np.array([8, 4, 5, 1]))  # the last of b, the last of a, the first of b
    assert frames_of(batch) == [3, 4, 0, 1]
    assert batch["is_labelled"][:, 1].tolist() == [False, False, True, True]


def test_shuffled_floats_are_those_of_another_frame(tmp_path: Path) -> None:
    batch = memory(tmp_path / "laps", shuffled=[1, 2]).batch_of(np.array([5, 6, 7, 8]))
    assert batch["observation"][:, :4].tolist() == [[5, 7, 7, 5], [6, 8, 8, 6], [7, 5, 5, 7], [8, 6, 6, 8]]


def test_blocks_are_labels_of_all_slots(tmp_path: Path) -> None:
    laps = memory(tmp_path / "laps", changes={"action_block": 5}, offsets=[0, 1])
    assert laps.batch_of(np.array([3]))["action"].tolist() == [[[4, 5, 6, 7, 8], [5, 6, 7, 8, 9]]]
    assert int(laps.action_counts(12).sum()) == 12 * 5


def test_it_resumes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    whole, parts = (memory(tmp_path / "laps", seed=3) for _ in range(2))
    for laps in (whole, parts):
        laps.extend(steps(17))
    expected = [frames_of(batch) for batch in whole.batches()]
    (before := parts.batches()).__next__()
    next(before)
    again = memory(tmp_path / "laps", seed=3)
    again.load_state_dict(parts.state_dict())
    assert [frames_of(batch) for batch in again.batches()] == expected[2:]
    other = memory(tmp_path / "others", [[9]])
    with pytest.raises(ValueError, match="data: has 9 frames to learn from, but had 12"):
        other.load_state_dict(parts.state_dict())


def test_accuracy_is_the_mean_over_the_last_minibatches(tmp_path: Path) -> None:
    laps = memory(tmp_path / "laps", offsets=[0, 2])
    laps.extend(steps(2))
    assert "accuracy" not in laps.metrics()
    for share in (0.5, 1.0):
        laps.seen(TensorDict({"diagnostics": torch.tensor([[share, 0.0]])}, [1]))
    assert laps.metrics() == {"epoch": 0.0, "accuracy": 0.75, "accuracy_100ms": 0.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 13}, "batch_size=13: .*at most 12"),
        ({"held_out_share": 1.0}, "held_out_share=1.0"),
        ({"offsets": [1]}, r"offsets=\[1\]"),
        ({"offsets": [0, -1]}, r"offsets=\[0, -1\]"),
        ({"offsets": [0, 0.5]}, r"offsets=\[0, 0.5\]"),
        ({"offsets": [0, 1e9]}, r"offsets=\[0, 1000000000.0\]: the longest lap"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        memory(tmp_path / "laps", **options)
