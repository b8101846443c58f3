"""Recorded laps as a task: what it refuses, and that its score is that of a linear probe."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.envs.transforms import CatFrames, RewardScaling

from tests.data.demonstrations import made_laps
from tm_torchrl.data import DamagedFileError, DemonstrationWriter
from tm_torchrl.data.demonstrations.description import MANIFEST
from tm_torchrl.tasks import RecordedFrames
from tm_torchrl.world.observation import observation_layout


class Brightness(TensorDictModuleBase):
    """Features that are the mean level of each image, and nothing else."""

    in_keys, out_keys = ["pixels"], ["features"]

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        return tensordict.set("features", self.scale * tensordict["pixels"].float().mean((-1, -2)))


@pytest.fixture(scope="module")
def laps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten laps of 20 frames, whose brightness is their speed; of the offset and the curve it says nothing."""
    folder = tmp_path_factory.mktemp("laps") / "oval"
    writer, layout = DemonstrationWriter(folder, made_laps.description(image_size=8)), observation_layout()
    random = np.random.default_rng(0)
    found = []
    for number in range(10):
        lap = made_laps.lap(20 * number, 20, image_size=8)
        floats = np.zeros((20, layout.size), np.float32)
        floats[:, layout["zones_ahead"]] = random.normal(size=(20, 120)) + np.repeat(10.0 * np.arange(40), 3)
        floats[:, layout.start("velocity")] = 20 * number + np.arange(20)
        found.append(made_laps.replaced(lap, observation=floats))
    writer.add(found, num_attempts=10)
    return folder


def test_the_score_is_what_features_say(laps: Path) -> None:
    task = RecordedFrames(laps, held_out_share=0.2)
    (row,) = task.evaluate(Brightness(), num=50, seed=0)
    assert row["r2_speed"] == pytest.approx(1.0, abs=1e-3)
    assert row["r2_lateral_offset"] < 0.3 and row["r2_curvature"] < 0.3
    assert row["num_frames"] == 40
    assert task.score([row]) == (row["r2_mean"], min(row["r2_lateral_offset"], row["r2_curvature"]))
    assert task.label == "frames of oval"


def test_fewer_laps_are_probed_if_asked(laps: Path) -> None:
    (row,) = RecordedFrames(laps, held_out_share=0.5).evaluate(Brightness(), num=3, seed=0)
    assert row["num_frames"] == 3 * 20


def test_images_are_stacked(laps: Path) -> None:
    task = RecordedFrames(laps, transforms=[partial(CatFrames, N=4, dim=-3, in_keys=["pixels"])])
    assert task.network_arguments() == {"image_shape": (4, 8, 8)}
    assert task.evaluate(Brightness(), num=50, seed=0)[0]["num_frames"] == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": None}, "data=null: .*--pixels"),
        ({"data": "nowhere"}, "data=nowhere: does not exist"),
        ({"held_out_share": 0.05}, "0 of its 10 laps are held out"),
        ({"held_out_share": 1.5}, "held_out_share=1.5"),
        ({"transforms": [partial(RewardScaling, 0.0, 1.0)]}, "transforms=RewardScaling"),
    ],
)
def test_wrong_arguments(laps: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecordedFrames(**{"data": laps, **options})


def test_folders_that_do_not_fit_are_refused_by_name(laps: Path, tmp_path: Path) -> None:
    made_laps.write(tmp_path / "blind", [[20]])
    made_laps.write(tmp_path / "large", [[20]], image_size=16)
    with pytest.raises(ValueError, match="blind: has no images; record the laps with --pixels"):
        RecordedFrames([laps, tmp_path / "blind"])
    with pytest.raises(ValueError, match="large: image_size=16, but 8 in"):
        RecordedFrames([laps, tmp_path / "large"])
    made_laps.write(tmp_path / "few", [[20, 20, 20]], image_size=8)
    with pytest.raises(ValueError, match="at least 4 laps"):
        RecordedFrames(tmp_path / "few", held_out_share=0.5)


def test_damaged_images_are_refused_by_name(tmp_path: Path) -> None:
    made_laps.write(tmp_path / "laps", [[20] * 4], image_size=8)
    path = tmp_path / "laps" / "part_00000" / "pixels.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(DamagedFileError, match=r"pixels\.npy"):
        RecordedFrames(tmp_path / "laps", held_out_share=0.25)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedFileError, match=r"pixels\.npy"):
        RecordedFrames(tmp_path / "laps", held_out_share=0.25)
    path.unlink()
    with pytest.raises(DamagedFileError, match=r"pixels\.npy"):
        RecordedFrames(tmp_path / "laps", held_out_share=0.25)
    (tmp_path / "laps" / MANIFEST).write_text("{")
    with pytest.raises(DamagedFileError, match=MANIFEST):
        RecordedFrames(tmp_path / "laps", held_out_share=0.25)


def test_nothing_can_be_driven(laps: Path) -> None:
    with pytest.raises(ValueError, match="env=recorded: nothing can be driven"):
        RecordedFrames(laps).make_env(num_envs=1)
