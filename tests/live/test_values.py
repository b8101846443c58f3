"""Values of all actions along a lap."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.live.run_folders import make_run
from tm_torchrl.agents import load_agent
from tm_torchrl.agents.agent import make_agent
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.live.runs import Run
from tm_torchrl.live.values import LEVELS, NoValues, lap_values, seen_along
from tm_torchrl.settings import compose_settings
from tm_torchrl.sim import Simulator, Starts
from tm_torchrl.tracks import load_track

RUNS = Path(__file__).resolve().parents[1] / "fixtures" / "runs_0_1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the first version."""
    folder = tmp_path_factory.mktemp("values")
    with tarfile.open(RUNS / "drive.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "drive"


def test_each_action_has_its_levels_at_each_step(run: Path) -> None:
    actions = np.array([0, 0, 1, 6])
    found = lap_values(run, load_track("oval"), actions=actions, start=None)
    values = np.array(found["values"]).reshape(4, 12, len(LEVELS))
    assert found["num_actions"] == 12 and found["levels"] == list(LEVELS)
    assert (np.diff(values, axis=2) >= 0).all(), "5% lies below 25%, and so on"
    env = TrackManiaEnv(1, track="oval")
    env.reset()
    first = load_agent(run).quantiles(env.race.observation)[0]  # [N, A]
    median = torch.quantile(first.float(), 0.5, dim=0).detach().numpy()
    np.testing.assert_allclose(values[0, :, 2], median, atol=6e-4)  # rounded to 3 digits


def test_the_lap_is_seen_from_where_it_began(run: Path) -> None:
    agent, track = load_agent(run), load_track("oval")
    start = Simulator(track, num_cars=1, seed=5, starts=Starts(jitter_m=0.5, jitter_speed=2.0)).save()[0].numpy()
    from_line, shifted = (seen_along(agent, track, actions=np.zeros(3), start=at) for at in (None, start))
    assert from_line.shape == shifted.shape == (3, 184)
    assert not torch.equal(from_line[0], shifted[0])


@pytest.mark.parametrize(
    "overrides", [["algorithm=ppo"], ["network=small_image", "env.pixels=true", "env.floats=false"]]
)
def test_other_networks_are_refused(run: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(compose_settings(overrides))
    monkeypatch.setattr("tm_torchrl.live.values.load_agent", lambda folder: agent)
    with pytest.raises(NoValues):
        lap_values(run, load_track("oval"), actions=np.zeros(1), start=None)


def test_the_page_offers_them_for_quantile_networks_only(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "oval")
    (folder / "checkpoints").mkdir()
    assert Run(folder, name="oval").page()["has_values"]
    settings = "objective: {network: {_target_: tm_torchrl.modules.PolicyValueNetwork}}\n"
    (folder / "config.yaml").write_text(settings, encoding="utf-8")
    assert not Run(folder, name="oval").page()["has_values"]
