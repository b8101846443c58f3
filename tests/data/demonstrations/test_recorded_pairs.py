"""Recorded pairs as a memory: hand-worked minibatches, order and payment, continuing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.demonstrations import made_laps
from tm_torchrl.collectors import Clock
from tm_torchrl.data import DemonstrationFolder, PairFile, RecordedPairs
from tm_torchrl.data.demonstrations.pair_file import Segment, write_pairs


@pytest.fixture
def file(tmp_path: Path) -> PairFile:
    """Three pairs of lap 0, which has 6 frames, with itself: steps 0 to 2 and 0 to 1, then 1 and 1, 2 to 5 and 2."""
    made_laps.write(tmp_path / "a", [[6]], image_size=64)
    segments = [((0, 2), (0, 1)), ((1, 1), (1, 1)), ((2, 4), (2, 1))]
    pairs = [(Segment("a", 0, *preferred), Segment("a", 0, *rejected)) for preferred, rejected in segments]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    return PairFile(tmp_path / "pairs.jsonl", DemonstrationFolder)


def seen(memory: RecordedPairs, frames: int) -> list[Any]:
    memory.extend(next(iter(Clock(None, None, frames_per_batch=frames))))  # type: ignore[arg-type]
    found = []
    for batch in memory.batches():
        batch["diagnostics"] = torch.full((len(batch), 1), float(len(batch)))
        memory.seen(batch)
        found.append(batch)
    return found


def test_the_preferred_segment_comes_first_and_the_shorter_is_padded(file: PairFile) -> None:
    memory = RecordedPairs(file, minibatch_size=3, kept_keys=["observation", "pixels"])
    batch = memory.batch_of(torch.tensor([0, 2]).numpy())
    yes, no = True, False
    assert batch["mask"].tolist() == [[[yes, yes, no, no], [yes, no, no, no]], [[yes] * 4, [yes, no, no, no]]]
    assert batch["steps", "observation"][..., 7].tolist() == [
        [[0, 1, 0, 0], [0, 0, 0, 0]],
        [[2, 3, 4, 5], [2, 0, 0, 0]],
    ]
    assert batch["steps", "pixels"][1, 0, :, 0, 9, 9].tolist() == [2, 3, 4, 5]
    assert batch["steps", "action"][1, 0].tolist() == [2, 3, 4, 5], "what was played, not what was chosen"


def test_each_epoch_has_each_pair_and_steps_are_paid_for(file: PairFile) -> None:
    """The pairs have 3, 2 and 5 steps: 10 an epoch. A minibatch begins while a frame is left."""
    memory = RecordedPairs(file, minibatch_size=1)
    batches = seen(memory, 10)
    assert sorted(int(batch["mask"].sum()) for batch in batches) == [2, 3, 5]
    assert memory.metrics() == {"epoch": 1.0, "kl": 1.0}
    sizes = [int(batch["mask"].sum()) for frames in (1, 9, 30, 20) for batch in seen(memory, frames)]
    assert sum(sizes) >= 60 and sum(sizes[:-1]) < 60


def test_it_continues_from_a_saved_state(file: PairFile) -> None:
    whole, parts, again = (RecordedPairs(file, minibatch_size=1, seed=3) for _ in range(3))
    seen(whole, 14), seen(parts, 14)
    again.load_state_dict(parts.state_dict())
    rest, expected = seen(again, 40), seen(whole, 40)
    assert len(rest) == len(expected) > 4
    assert all(torch.equal(a["steps", "action"], b["steps", "action"]) for a, b in zip(rest, expected, strict=True))
    assert again.metrics() == whole.metrics()


def test_a_run_goes_on_with_its_own_pairs(file: PairFile) -> None:
    memory = RecordedPairs(file, minibatch_size=1)
    with pytest.raises(ValueError, match=r"data=.*pairs\.jsonl: has 3 pairs to learn from, but had 4"):
        memory.load_state_dict({**memory.state_dict(), "num_pairs": 4})


def test_wrong_arguments(file: PairFile) -> None:
    with pytest.raises(ValueError, match="minibatch_size=0"):
        RecordedPairs(file, minibatch_size=0)
