"""GRPO in the loop: it trains, saves, resumes bit for bit, evaluates, and refuses wrong settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.test_training import numbers, quiet, weights
from tm_torchrl.agents import load_agent
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.record.run_folder import read_metrics
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers import GRPO

SMALL = [
    "algorithm=grpo",
    "algorithm.group_size=3",
    "algorithm.segment_steps=8",
    "objective.network.hidden_sizes=[16]",
    "objective.network.head_size=16",
    "groups.frames_per_update=96",
    "groups.minibatch_size=32",
    "groups.num_epochs=2",
    "collector=single",
    "collector.frames_per_batch=64",
    "log.tensorboard=false",
    "log.every_frames=64",
    "evaluation.every_frames=256",
    "evaluation.num=2",
]
CARTPOLE = [*SMALL, "env=gym", "env.name=CartPole-v1", "env.num_envs=4"]
OVAL = [*SMALL, "env.track=oval", "env.num_envs=4", "env.evaluation_limits.race_s=3"]


@pytest.mark.parametrize("starts", ["equal", "mixed"])
def test_it_trains_and_evaluates(tmp_path: Path, starts: str) -> None:
    run = tmp_path / "run"
    quiet([*CARTPOLE, f"algorithm.starts={starts}", "total_frames=512"], run)
    (*_, last) = read_metrics(run)
    assert last["train/updates"] >= 4 * 2 * 3
    assert last["train/kl"] >= 0 and 0 <= last["train/clip_share"] <= 1 and 0 < last["train/entropy"] <= 0.6932
    assert last["train/group_spread"] >= 0 and 0 <= last["train/equal_groups"] <= 1
    assert "train/explained_variance" not in last
    row = load_agent(run).evaluate(laps=2)[0]
    assert row["num_episodes"] == 2 and row["length_mean"] != 8, "evaluated episodes are not cut"


@pytest.mark.parametrize("stop", [192, 256])
def test_it_resumes_bit_for_bit(tmp_path: Path, stop: int) -> None:
    more = ["algorithm.reference_coefficient=0.1", "algorithm.reference_period=5"]
    more += ["learning_rate=5.0e-4", "algorithm.entropy_coefficient=0.01"]  # the preset's fall until total_frames
    quiet([*OVAL, *more, "total_frames=512"], tmp_path / "whole")
    quiet([*OVAL, *more, f"total_frames={stop}"], tmp_path / "parts")
    quiet(["total_frames=512", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@pytest.mark.parametrize("collector", ["multi_sync", "multi_async"])
def test_workers_collect_for_it(tmp_path: Path, collector: str) -> None:
    quiet([*OVAL, f"collector={collector}", "collector.num_workers=2", "total_frames=512"], tmp_path / "run")
    (*_, last) = read_metrics(tmp_path / "run")
    assert last["train/updates"] >= 2 * 2 * 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.group_size=1", "group_size=1: must be at least 2"),
        ("algorithm.starts=saved", "starts='saved'"),
        ("algorithm.segment_steps=0", "segment_steps=0"),
        ("algorithm.clip=0", r"clip=0\b"),
        ("algorithm.clip_high=0", r"clip_high=0\b"),
        ("algorithm.reference_coefficient=-1", "reference_coefficient=-1"),
        ("algorithm.reference_period=0", "reference_period=0"),
        ("algorithm.entropy_coefficient=-1", "entropy_coefficient=-1"),
        ("gamma=[linear,[0,0.9],[100,0.99]]", "gamma="),
        ("gamma=1.1", r"gamma=1\.1"),
        ("groups.frames_per_update=0", "groups.frames_per_update=0"),
        ("groups.minibatch_size=4096", "groups.minibatch_size=4096"),
        ("rollouts.gae_lambda=1", "rollouts"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        quiet([*CARTPOLE, override], tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_game_has_its_own_starts() -> None:
    settings = compose_settings(["algorithm=grpo", "env=game", "game=emulator2", "env.track=oval"])
    with pytest.raises(ConfigError, match="starts='equal': GameTask"):
        make_algorithm(settings, make_task(settings))


def test_probabilities_explain_a_lap() -> None:
    settings = compose_settings(["algorithm=grpo", "env.track=oval", "env.num_envs=2"])
    found = make_algorithm(settings, make_task(settings)).explain(torch.zeros(7, 184), torch.zeros(7).long())
    assert list(found) == ["action_probabilities"] and found["action_probabilities"].shape == (7, 12)


def test_it_trains_from_python(tmp_path: Path) -> None:
    agent = GRPO("CartPole-v1", settings=CARTPOLE[1:12], folder=tmp_path / "run").train(frames=256, is_quiet=True)
    again = GRPO.load(agent.save(tmp_path / "saved"))
    state = [0.01, -0.02, 0.03, 0.04]
    assert torch.equal(again.predict(state), agent.predict(state))


def test_the_preset_plays_whole_episodes() -> None:
    settings = compose_settings(["experiment=cartpole_grpo"])
    algorithm: Any = make_algorithm(settings, make_task(settings))
    env = algorithm.env_maker.make_env(num_envs=8)
    assert env.segment_steps is None and env.group_size == 8 and env.reset()["observation"].unique(dim=0).shape[0] == 1
