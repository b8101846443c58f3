"""DPO in the loop: it trains, saves, resumes bit for bit, evaluates, and refuses wrong settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.demonstrations import made_laps
from tests.trainers.test_training import numbers, quiet, weights
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.algorithms.warm_start import warm_start
from tm_torchrl.data.demonstrations.pair_file import Segment, write_pairs
from tm_torchrl.record.run_folder import read_metrics
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers import DPO

SMALL = [
    "algorithm=dpo",
    "algorithm.group_size=4",
    "algorithm.segment_steps=12",
    "objective.network.hidden_sizes=[16]",
    "objective.network.head_size=16",
    "pairs.frames_per_update=96",
    "pairs.minibatch_size=2",
    "pairs.num_epochs=2",
    "collector=single",
    "collector.frames_per_batch=64",
    "log.tensorboard=false",
    "log.every_frames=64",
    "evaluation.every_frames=256",
    "evaluation.num=2",
]
CARTPOLE = [*SMALL, "env=gym", "env.name=CartPole-v1", "env.num_envs=4"]
OVAL = [*SMALL, "env.track=oval", "env.num_envs=4", "env.evaluation_limits.race_s=3"]


def test_it_trains_and_is_loaded(tmp_path: Path) -> None:
    settings = [*CARTPOLE[1:13], "algorithm.segment_steps=null"]
    agent = DPO("CartPole-v1", settings=settings, folder=tmp_path / "run").train(frames=512, is_quiet=True)
    (*_, last) = read_metrics(tmp_path / "run")
    assert last["train/updates"] >= 4 and last["train/kl"] >= 0
    assert 0 <= last["train/preference_accuracy"] <= 1 and 0 <= last["train/tied_pairs"] <= 1
    again = DPO.load(agent.save(tmp_path / "saved"))
    state = [0.01, -0.02, 0.03, 0.04]
    assert again.predict(state).shape == () and "trained for" in repr(again)


@pytest.mark.parametrize("stop", [192, 256])
def test_it_resumes_bit_for_bit(tmp_path: Path, stop: int) -> None:
    more = ["algorithm.reference_period=5", "algorithm.cloning_coefficient=0.1"]
    quiet([*OVAL, *more, "total_frames=512"], tmp_path / "whole")
    quiet([*OVAL, *more, f"total_frames={stop}"], tmp_path / "parts")
    quiet(["total_frames=512", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.group_size=1", "group_size=1"),
        ("algorithm.segment_steps=0", "segment_steps=0"),
        ("algorithm.temperature=0", r"temperature=0\b"),
        ("algorithm.cloning_coefficient=-1", "cloning_coefficient=-1"),
        ("algorithm.reference_period=0", "reference_period=0"),
        ("algorithm.entropy_coefficient=-1", "entropy_coefficient=-1"),
        ("gamma=[linear,[0,0.9],[100,0.99]]", "gamma="),
        ("pairs.least_difference=-1", "pairs.least_difference=-1"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        quiet([*CARTPOLE, override], tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


RECORDED = [
    "algorithm=dpo_recorded",
    "env.track=oval",
    "env.num_envs=2",
    "env.evaluation_limits.race_s=0.5",
    *[each for each in SMALL if each.startswith(("objective", "log", "evaluation"))],
    "pairs.minibatch_size=2",
    "collector.frames_per_batch=64",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Five pairs of a lap's beginnings of 12 and of fewer steps."""
    made_laps.write(tmp_path / "laps", [[12]])
    pairs = [(Segment("laps", 0, 0, 12), Segment("laps", 0, 0, 12 - steps)) for steps in range(5)]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    return tmp_path / "pairs.jsonl"


def test_it_learns_from_a_file_and_resumes_bit_for_bit(tmp_path: Path, file: Path) -> None:
    settings = [*RECORDED, f"data='{file}'", "algorithm.cloning_coefficient=0.1"]
    quiet([*settings, "total_frames=384"], tmp_path / "whole")
    quiet([*settings, "total_frames=192"], tmp_path / "parts")
    quiet(["total_frames=384", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    (*_, last) = read_metrics(tmp_path / "whole")
    assert last["train/epoch"] > 2 and last["train/kl"] >= 0 and last["train/preference_accuracy"] > 0


def test_the_reference_is_the_policy_that_is_loaded(tmp_path: Path, file: Path) -> None:
    quiet([*RECORDED, f"data='{file}'", "total_frames=64"], tmp_path / "before")
    loaded = weights(tmp_path / "before")
    for period in ("null", "5"):
        settings = compose_settings([*RECORDED, f"data='{file}'", f"algorithm.reference_period={period}", "seed=1"])
        algorithm: Any = make_algorithm(settings, make_task(settings))
        warm_start(algorithm, source=tmp_path / "before")
        reference = algorithm.loss.reference.state_dict()
        assert all(torch.equal(value, loaded[f"network.{key}"]) for key, value in reference.items())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("collector=single", "use collector=clock"),
        ("collector=multi_sync", "use collector=clock"),
        ("env.track=ring", "line 1: data=.*laps on oval, not on ring"),
        ("env.num_previous_actions=25", "line 1: env.num_previous_actions=25: must be 5"),
        ("data=nowhere.jsonl", r"data=nowhere\.jsonl: no file of pairs"),
        ("pairs.minibatch_size=0", "minibatch_size=0"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(tmp_path: Path, file: Path, override: str, message: str) -> None:
    more = [each for each in RECORDED if not (override.startswith("collector=") and each.startswith("collector"))]
    with pytest.raises(ConfigError, match=message) as caught:
        quiet([*more, f"data='{file}'", override], tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
