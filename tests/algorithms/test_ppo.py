"""PPO in the loop: it trains, saves, resumes bit for bit, evaluates and exports."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainers.test_training import numbers, quiet, weights
from tm_torchrl.agents import load_agent
from tm_torchrl.agents.export import GreedyPolicy, disagreements, export_policy, visited_states
from tm_torchrl.algorithms import PPOAlgorithm, make_algorithm
from tm_torchrl.record.run_folder import read_metrics
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers import PPO

SMALL = [
    "algorithm=ppo",
    "objective.network.hidden_sizes=[16]",
    "objective.network.head_size=16",
    "rollouts.frames_per_update=128",
    "rollouts.minibatch_size=32",
    "rollouts.num_epochs=2",
    "collector=single",
    "collector.frames_per_batch=64",
    "log.tensorboard=false",
    "log.every_frames=64",
    "evaluation.every_frames=256",
    "evaluation.num=2",
]
CARTPOLE = [*SMALL, "env=gym", "env.name=CartPole-v1", "env.num_envs=4"]
OVAL = [*SMALL, "env.track=oval", "env.num_envs=4", "env.evaluation_limits.race_s=3"]


def test_it_trains_evaluates_and_exports(tmp_path: Path) -> None:
    run = tmp_path / "run"
    summary = quiet([*CARTPOLE, "total_frames=512"], run)
    assert summary.frames == 512
    (*_, last) = read_metrics(run)
    # 4 rollouts of 128 frames, 2 epochs of 4 minibatches of 32
    assert last["train/updates"] == 4 * 2 * 4
    assert last["train/updates_of_rollout"] == 2 * 4
    assert last["train/kl"] >= 0 and 0 <= last["train/clip_share"] <= 1
    assert 0 < last["train/entropy"] <= 0.6932  # log 2
    assert last["train/explained_variance"] <= 1
    agent = load_agent(run)
    assert agent.evaluate(laps=2)[0]["num_episodes"] == 2
    states = visited_states(agent, 50)
    assert disagreements(agent, export_policy(GreedyPolicy(agent.actor), states, tmp_path / "policy.pt2"), states) == 0


@pytest.mark.parametrize("stop", [192, 256], ids=["with half a rollout", "after the updates"])
def test_it_resumes_bit_for_bit(tmp_path: Path, stop: int) -> None:
    quiet([*OVAL, "total_frames=512"], tmp_path / "whole")
    quiet([*OVAL, f"total_frames={stop}"], tmp_path / "parts")
    quiet(["total_frames=512", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


MEMORY = ["objective.network.core={_target_: tm_torchrl.modules.GRU, _partial_: true, hidden_size: 8}"]


def test_memory_trains_resumes_bit_for_bit_and_exports(tmp_path: Path) -> None:
    """Sequences of 12 steps of the 32 of a rollout: each lane has three, of which the last is padded."""
    settings = [*OVAL, *MEMORY, "rollouts.sequence_length=12"]
    quiet([*settings, "total_frames=512"], tmp_path / "whole")
    quiet([*settings, "total_frames=192"], tmp_path / "parts")
    quiet(["total_frames=512", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    agent = load_agent(tmp_path / "whole")
    states = visited_states(agent, 50)
    assert disagreements(agent, export_policy(GreedyPolicy(agent.actor), states, tmp_path / "policy.pt2"), states) == 0
    assert read_metrics(tmp_path / "whole")[-1]["train/kl"] < 1e-2


@pytest.mark.parametrize("collector", ["multi_sync", "multi_async"])
def test_workers_collect_for_it(tmp_path: Path, collector: str) -> None:
    """Rollouts are half of one worker's and half of the other's batches, in any order."""
    quiet([*OVAL, f"collector={collector}", "collector.num_workers=2", "total_frames=384"], tmp_path / "run")
    (*_, last) = read_metrics(tmp_path / "run")
    assert last["train/updates"] >= 2 * 4 * 2


def test_memory_drives_with_workers_and_blocks(tmp_path: Path) -> None:
    workers = ["collector=multi_async", "collector.num_workers=2", "env.action_block=5", "objective.network.mixer=conv"]
    quiet([*OVAL, *MEMORY, *workers, "total_frames=384", "evaluation.every_frames=128"], tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1]["train/updates"] >= 2 * 4


@pytest.mark.parametrize("algorithm", ["grpo", "dpo"])
def test_others_refuse_memory(tmp_path: Path, algorithm: str) -> None:
    with pytest.raises(ConfigError, match=r"^objective\.network\.core=GRU"):
        quiet([f"algorithm={algorithm}", "env.track=oval", *MEMORY, "env.num_envs=8"], tmp_path / "run")


def test_blocks_of_actions(tmp_path: Path) -> None:
    quiet([*OVAL, "env.action_block=5", "objective.network.mixer=conv", "total_frames=128"], tmp_path / "run")
    (*_, last) = read_metrics(tmp_path / "run")
    # Five slots of twelve actions, all of which are still about equally likely: 5 log 12 = 12.42.
    assert last["train/entropy"] == pytest.approx(12.42, abs=0.05)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.clip=0", r"clip=0\b"),
        ("algorithm.clip=[linear,[0,0.2],[100,1.5]]", r"clip=1\.5"),
        ("algorithm.clip_value=-1", "clip_value=-1"),
        ("algorithm.value_coefficient=0", "value_coefficient=0"),
        ("algorithm.entropy_coefficient=-1", "entropy_coefficient=-1"),
        ("gamma=[linear,[0,0.9],[100,0.99]]", "gamma="),
        ("gamma=1.1", r"gamma=1\.1"),
        ("learning_rate=-1", "learning_rate=-1"),
        ("rollouts.frames_per_update=0", "rollouts.frames_per_update=0"),
        ("rollouts.minibatch_size=4096", "rollouts.minibatch_size=4096"),
        ("rollouts.gae_lambda=2", "rollouts.gae_lambda=2"),
        ("rollouts.target_kl=0", "rollouts.target_kl=0"),
        ("objective.network.linear=noisy", "linear='noisy'"),
        ("objective.network.value_per_slot=true", "value_per_slot=True"),
        ("objective=iqn", "objective"),
        ("replay.batch_size=3", "replay"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        quiet([*CARTPOLE, override], tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_it_trains_from_python(tmp_path: Path) -> None:
    agent = PPO("CartPole-v1", settings=CARTPOLE[1:10], folder=tmp_path / "run").train(frames=256, is_quiet=True)
    again = PPO.load(agent.save(tmp_path / "saved"))
    state = [0.01, -0.02, 0.03, 0.04]
    assert torch.equal(again.predict(state), agent.predict(state))
    assert agent.train(frames=384, is_quiet=True).summary.frames == 384  # type: ignore[union-attr]
    assert str(agent).startswith("PPO(CartPole-v1")
    with pytest.raises(TypeError, match="only a quantile network has quantiles"):
        agent.quantiles(torch.zeros(4))


def test_the_preset_is_a_policy_for_cartpole() -> None:
    settings = compose_settings(["experiment=cartpole_ppo"])
    algorithm = make_algorithm(settings, make_task(settings))
    assert isinstance(algorithm, PPOAlgorithm)
    assert {name: schedule(50_000) for name, (schedule, _) in algorithm.schedules().items()} == pytest.approx(
        {"learning_rate": 5e-4, "clip": 0.1, "entropy_coefficient": 0.0}
    )


def test_the_schedules_of_fast_laps_end_with_the_run() -> None:
    settings = compose_settings(["experiment=fast_laps", "total_frames=2_000", "env.track=oval", "env.num_envs=2"])
    algorithm = make_algorithm(settings, make_task(settings))
    assert {name: schedule(1_000) for name, (schedule, _) in algorithm.schedules().items()} == pytest.approx(
        {"learning_rate": 5.05e-4, "clip": 0.2, "entropy_coefficient": 5.15e-3}
    )


def test_values_and_probabilities_explain_a_lap() -> None:
    settings = compose_settings(["algorithm=ppo", "env.track=oval", "env.num_envs=2"])
    algorithm = make_algorithm(settings, make_task(settings))
    found = algorithm.explain(torch.zeros(7, 184), torch.zeros(7, dtype=torch.int64))
    assert found["state_values"].shape == (7,) and found["action_probabilities"].shape == (7, 12)
    torch.testing.assert_close(found["action_probabilities"].sum(-1), torch.ones(7))
