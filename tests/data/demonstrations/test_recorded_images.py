"""Images of recorded laps: frame f has the brightness f modulo 256."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.envs.transforms import CatFrames

from tests.data.demonstrations import made_laps
from tm_torchrl.data import DemonstrationFolder, RecordedImages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DemonstrationFolder:
    """Laps of frames 0 to 9, 10 to 29, 30 to 34 and 35 to 59."""
    path = tmp_path_factory.mktemp("laps") / "oval"
    made_laps.write(path, [[10, 20], [5, 25]], image_size=8)
    return DemonstrationFolder(path)


def brightness(pixels: torch.Tensor) -> list:
    return pixels[:, :, 3, 3].tolist()


def test_images_are_stacked_inside_their_lap(folder: DemonstrationFolder) -> None:
    images = RecordedImages([folder], batch_size=4, num_stacked=3)
    assert brightness(images.pixels_of(np.array([5, 11, 30, 34]))) == [[3, 4, 5], [10, 10, 11], [30] * 3, [32, 33, 34]]


def test_they_are_stacked_as_in_an_environment(folder: DemonstrationFolder) -> None:
    images, stack = RecordedImages([folder], batch_size=4, num_stacked=4), CatFrames(N=4, dim=-3, in_keys=["pixels"])
    single = RecordedImages([folder], batch_size=4).pixels_of(np.arange(30, 41))  # of two laps
    done = torch.zeros(11, 1, dtype=torch.bool)
    done[4] = True
    steps = TensorDict({"pixels": single, "next": {"done": done}}, [11], names=["time"])
    assert torch.equal(stack.unfolding(steps)["pixels"], images.pixels_of(np.arange(30, 41)))


def test_positives_are_later_images_of_the_same_lap(folder: DemonstrationFolder) -> None:
    images = RecordedImages([folder], batch_size=60, held_out_share=0.0, positive_steps=3)
    batch = images.batch_of(np.arange(60))
    gap = batch["positive"][:, 0, 0, 0].int() - torch.arange(60)
    ends = torch.tensor([9] * 10 + [29] * 20 + [34] * 5 + [59] * 25)
    assert bool((gap <= 3).all()) and bool((batch["positive"][:, 0, 0, 0].int() <= ends).all())
    assert bool((gap[torch.arange(60) < ends] >= 1).all()) and set(gap.tolist()) == {0, 1, 2, 3}
    assert "positive" not in RecordedImages([folder], batch_size=4).batch_of(np.arange(4))


def test_a_second_session_hands_out_what_the_first_would_have(folder: DemonstrationFolder) -> None:
    def memory() -> RecordedImages:
        return RecordedImages([folder], batch_size=8, positive_steps=3, seed=5)

    def due(images: RecordedImages) -> list[list]:
        images.extend(TensorDict({}, [40]))
        return [[brightness(batch["pixels"]), brightness(batch["positive"])] for batch in images.batches()]

    first, second = memory(), memory()
    due(first)
    second.load_state_dict(first.state_dict())
    assert due(second) == due(first)


def test_neighbours_are_of_other_laps(folder: DemonstrationFolder) -> None:
    """Features are an angle of 0.01 a frame, so the nearest frames of other laps are those at the laps' ends."""
    images = RecordedImages([folder], batch_size=4)

    def angles(frames: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(0.01 * frames), np.sin(0.01 * frames)], 1)

    assert images.neighbours_of(np.array([9, 30, 34]), angles).tolist() == [[10, 11, 12], [29, 28, 27], [35, 36, 37]]


def test_wrong_arguments(folder: DemonstrationFolder) -> None:
    with pytest.raises(ValueError, match="positive_steps=-1"):
        RecordedImages([folder], batch_size=4, positive_steps=-1)
