"""Run folders of version 0.1.0 (commit 951e1b8) evaluate, report and resume.

Each is a training of a few hundred frames: a drive, CartPole, and prioritised replay of images.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch

from tests.trainers.test_training import quiet
from tm_torchrl.agents import load_agent
from tm_torchrl.data.saving.checkpoint import Checkpoints
from tm_torchrl.live.report import write_report
from tm_torchrl.record.run_folder import read_metrics

RUNS = Path(__file__).resolve().parents[1] / "fixtures" / "runs_0_1"


@pytest.mark.parametrize("name", ["drive", "cartpole", "pixels"])
def test_a_run_of_the_first_version_goes_on(name: str, tmp_path: Path) -> None:
    with tarfile.open(RUNS / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / name
    before, _ = Checkpoints(run / "checkpoints").load()
    agent = load_agent(run, which="latest")
    assert all(torch.equal(value, before["actor"][key]) for key, value in agent.actor.state_dict().items())
    assert agent.evaluate(laps=1)
    assert write_report(run).stat().st_size > 10_000
    more = before["frames"] + 128
    summary = quiet([f"total_frames={more}", f"resume='{run}'"], tmp_path / "ignored")
    assert summary.frames >= more
    last = read_metrics(run)[-1]
    assert last["train/updates"] > before["learner"]["num_updates"]
    assert last["train/replay_size"] > 128, "the replay was restored"
