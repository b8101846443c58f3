"""Recorded laps driven again give what was recorded, with the rewards of the environment that they are driven in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tm_torchrl.data import DemonstrationFolder, DemonstrationWriter
from tm_torchrl.data.demonstrations.description import Description
from tm_torchrl.data.demonstrations.driven_again import driven_again
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.envs.rewards import Progress
from tm_torchrl.evaluation.recording import STARTS, Disturbances, record_attempts
from tm_torchrl.tracks import blocks
from tm_torchrl.world.drivers import Pursuit

TRACK, OTHER = blocks("SSLSS", name="short"), blocks("SSSS", name="other")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DemonstrationFolder:
    """Laps of the scripted driver from anywhere, some of whose actions are random."""
    env = TrackManiaEnv(6, track=TRACK, starts=STARTS["anywhere"], seed=0)
    driver = Pursuit([TRACK], env.world.track_index)

    def act() -> Tensor:
        return driver(env.world.rows(), env.race.tracker)

    found = record_attempts(env, act, first=0, disturbances=Disturbances(0.1))
    path = tmp_path_factory.mktemp("laps") / "short"
    description = Description.of(TRACK, driver="scripted", state_size=env.world.save().shape[1])
    DemonstrationWriter(path, description).add([lap for lap in found if lap is not None], num_attempts=6)
    return DemonstrationFolder(path)


def test_it_gives_the_recorded_floats_and_the_rewards_of_its_environment(folder: DemonstrationFolder) -> None:
    numbers = list(range(folder.num_laps))[:3]
    assert len(numbers) >= 2
    env = TrackManiaEnv(len(numbers), tracks=[OTHER, TRACK], reward=[Progress(per_m=2.0)], seed=3)
    first = 0
    for number, steps in enumerate(driven_again(env, folder, numbers, track_index=1)):
        frames = np.arange(first, first + folder.lap_frames[number])
        first += len(frames)
        assert steps.shape == (1, len(frames))
        expected = torch.from_numpy(folder.rows("observation", frames))
        assert torch.equal(steps["observation"][0], expected)
        assert torch.equal(steps["next", "observation"][0, :-1], expected[1:])
        played, chosen = (folder.rows(name, frames) for name in ("action", "chosen"))
        assert steps["action"][0].tolist() == played.tolist()
        assert steps["is_greedy"][0].tolist() == (played == chosen).tolist()
        margin = steps["observation"][0, 0, -2] - steps["next", "observation"][0, -1, -2]  # metres to the finish
        assert float(steps["next", "reward"].sum()) == pytest.approx(2.0 * float(margin), rel=0.05)


def test_another_simulator_is_noticed(folder: DemonstrationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    env = TrackManiaEnv(1, track=TRACK, seed=0)
    monkeypatch.setattr(folder, "lap_start", folder.lap_start * np.float32(1.001))
    with pytest.raises(ValueError, match=r"data=.*lap 1 does not finish any more as it did"):
        list(driven_again(env, folder, [1]))
