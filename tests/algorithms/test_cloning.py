"""Behaviour cloning in the loop: it learns from laps, saves, resumes bit for bit, evaluates and starts other runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.demonstrations import made_laps
from tests.trainers.test_training import numbers, quiet, weights
from tm_torchrl.agents import load_agent
from tm_torchrl.agents.export import GreedyPolicy, disagreements, export_policy, visited_states
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.record.run_folder import read_metrics
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task

SMALL = [
    "algorithm=cloning",
    "env.track=oval",
    "env.num_envs=4",
    "env.evaluation_limits.race_s=0.5",
    "objective.network.hidden_sizes=[16]",
    "objective.network.head_size=16",
    "demonstrations.batch_size=32",
    "demonstrations.held_out_share=0.25",
    "collector.frames_per_batch=128",
    "log.tensorboard=false",
    "log.every_frames=128",
    "evaluation.every_frames=256",
    "evaluation.num=2",
]
IQN, POLICY = [], ["objective=policy"]


@pytest.fixture(scope="module")
def laps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four laps of 60 frames, with images."""
    folder = tmp_path_factory.mktemp("laps") / "oval"
    made_laps.write(folder, [[60, 60], [60, 60]], image_size=64)
    return folder


@pytest.mark.parametrize("network", [IQN, POLICY], ids=["quantiles", "policy"])
def test_it_learns_evaluates_and_exports(laps: Path, tmp_path: Path, network: list[str]) -> None:
    run = tmp_path / "run"
    later = ["algorithm.offsets_ms=[0,100]", "algorithm.offset_weights=[1,0.5]"]
    summary = quiet([*SMALL, *network, *later, f"data='{laps}'", "total_frames=512"], run)
    assert summary.frames == 512
    first, *_, last = read_metrics(run)
    assert last["train/updates"] == 512 // 32
    assert last["train/epoch"] == pytest.approx(2 + 6 / 5)  # 16 minibatches, five in an epoch of 180 frames
    assert {"train/accuracy", "train/accuracy_100ms", "train/test_accuracy_100ms"} <= last.keys()
    assert last["train/test_loss"] < first["train/test_loss"]
    agent = load_agent(run)
    assert agent.evaluate(laps=2)[0]["num_laps"] == 2
    states = visited_states(agent, 50)
    assert disagreements(agent, export_policy(GreedyPolicy(agent.actor), states, tmp_path / "policy.pt2"), states) == 0


@pytest.mark.parametrize("network", [IQN, POLICY], ids=["quantiles", "policy"])
def test_it_resumes_bit_for_bit(laps: Path, tmp_path: Path, network: list[str]) -> None:
    settings = [*SMALL, *network, f"data='{laps}'"]
    quiet([*settings, "total_frames=640"], tmp_path / "whole")
    quiet([*settings, "total_frames=256"], tmp_path / "parts")
    quiet(["total_frames=640", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_clone_starts_runs_of_its_network(laps: Path, tmp_path: Path) -> None:
    quiet([*SMALL, f"data='{laps}'", "total_frames=128"], tmp_path / "clone")
    cloned = weights(tmp_path / "clone")
    size = SMALL[1:6]
    start = [f"warm_start={{source: '{tmp_path / 'clone'}'}}"]
    run = ["collector=single", "collector.frames_per_batch=64", "log.tensorboard=false", "evaluation.num=1"]
    quiet([*size, *run, *start, "total_frames=64"], tmp_path / "iqn")  # too few for an update
    assert all(torch.equal(value, cloned[name]) for name, value in weights(tmp_path / "iqn").items())


def test_it_learns_from_images(laps: Path, tmp_path: Path) -> None:
    image = ["env.pixels=true", "network=classic", "objective.network.image.pooling=global_average", *SMALL]
    quiet([*image, f"data='{laps}'", "total_frames=128"], tmp_path / "run")
    assert load_agent(tmp_path / "run").evaluate(laps=1)[0]["num_laps"] == 1


def test_blocks_of_actions(tmp_path: Path) -> None:
    made_laps.write(tmp_path / "laps", [[60, 60]], action_block=5)
    settings = [*SMALL, "demonstrations.held_out_share=0", f"data='{tmp_path / 'laps'}'", "total_frames=128"]
    quiet([*settings, "env.action_block=5"], tmp_path / "run")
    with pytest.raises(ConfigError, match=r"env\.action_block=1: must be 5"):
        quiet(settings, tmp_path / "other")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data=null", "data=null: .*tm-torchrl record"),
        ("data=[]", r"data=\[\]: must be"),
        ("data=nowhere", "data=nowhere: does not exist"),
        ("env.track=ring", "holds laps on oval, not on ring"),
        ("env.num_previous_actions=25", "env.num_previous_actions=25: must be 5"),
        ("transforms=stack_frames", "transforms"),
        ("algorithm.offsets_ms=[0,30]", r"offsets_ms=\[0, 30\]"),
        ("algorithm.offset_weights=[1,1]", r"offset_weights=\[1, 1\]"),
        ("algorithm.shuffled_floats=[velocities]", "did you mean velocity"),
        ("algorithm.class_balance=2", "class_balance=2"),
        ("algorithm.temperature=0", "temperature=0"),
        ("algorithm.label_temperature=0", "label_temperature=0"),
        ("algorithm.label_smoothing=1", "label_smoothing=1"),
        ("demonstrations.batch_size=999", "demonstrations.batch_size=999"),
        ("demonstrations.held_out_share=1", "demonstrations.held_out_share=1"),
        ("objective.network.core=gru", "objective.network.core"),
        ("precision=half", "precision='half'"),
        ("learning_rate=-1", "learning_rate=-1"),
        ("collector.frames_per_batch=0", "collector.frames_per_batch=0"),
    ],
)
def test_wrong_settings_are_one_line(laps: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        quiet([*SMALL, f"data='{laps}'", override], tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_laps_of_another_road_of_the_same_name_are_refused(tmp_path: Path) -> None:
    made_laps.write(tmp_path / "laps", [[60]], track_hash="0123456789abcdef")
    with pytest.raises(ConfigError, match="another track of the name oval"):
        quiet([*SMALL, f"data='{tmp_path / 'laps'}'"], tmp_path / "run")


def test_laps_without_images_do_not_train_a_network_that_sees(tmp_path: Path) -> None:
    made_laps.write(tmp_path / "laps", [[60]])
    with pytest.raises(ConfigError, match="has no images; record them with --pixels"):
        quiet([*SMALL, "env.pixels=true", "network=classic", f"data='{tmp_path / 'laps'}'"], tmp_path / "run")


@pytest.mark.parametrize(("network", "expected"), [(IQN, 0.03), (POLICY, 1.0)], ids=["quantiles", "policy"])
def test_the_temperature_fits_the_network(laps: Path, network: list[str], expected: float) -> None:
    """A policy's probabilities are the driver's; values differ as little as in reinforcement learning."""
    for words, temperature in (([], expected), (["algorithm.temperature=0.5"], 0.5)):
        settings = compose_settings([*SMALL, *network, *words, f"data='{laps}'"])
        algorithm: Any = make_algorithm(settings, make_task(settings))
        assert algorithm.learner.loss.temperature == temperature


def test_the_policy_s_network_is_not_for_quantiles(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="objective: has no loss"):
        quiet(["objective=policy"], tmp_path / "run")


def test_other_tasks_have_no_laps(laps: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use env=trackmania"):
        quiet(["algorithm=cloning", "env=gym", "env.name=CartPole-v1", f"data='{laps}'"], tmp_path / "run")
