"""Runs with memory: stop and resume, evaluate, export, and settings that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainers.test_resume_matrix import assert_resumes
from tests.trainers.test_training import SMALL, quiet
from tm_torchrl.agents import load_agent
from tm_torchrl.agents.export import GreedyPolicy, disagreements, export_policy, visited_states
from tm_torchrl.settings import ConfigError

SEQUENCES = [
    "replay=sequences",
    "replay.batch_size=4",
    "replay.length=8",
    "replay.burn_in=4",
    "replay.learning_starts=64",
    "replay.capacity=400",
]
PRIORITIES = "replay.prioritized={_target_: tm_torchrl.data.Priorities, alpha: 0.9, beta: [linear,[0,0.4],[480,1.0]]}"
CARTPOLE = [
    "experiment=r2d2_iqn",
    *SMALL,
    "objective.network.core={_target_: tm_torchrl.modules.GRU, _partial_: true, hidden_size: 8}",
    "replay.learning_starts=64",
    "evaluation.num=2",
    "log.diagnostics_every=1",
    "total_frames=2_048",
]


@pytest.mark.parametrize(
    ("core", "settings"),
    [
        ("gru", [PRIORITIES, "exploration.epsilon=[linear,[0,0.9],[480,0.1]]", "exploration.mean_steps=20"]),
        ("mamba", ["objective=fqf", "estimator=double", "replay.storage=memmap"]),
        ("lstm", ["collector=multi_sync", "collector.num_workers=2", "collector.overlap=true", "objective=qrdqn"]),
    ],
)
def test_stop_and_resume_equals_an_uninterrupted_run(core: str, settings: list[str], tmp_path: Path) -> None:
    stops = (200,) if core == "lstm" else (80, 200)
    assert_resumes([*SEQUENCES, f"objective.network.core={core}", *settings], tmp_path, stops=stops)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory") / "run"
    quiet(CARTPOLE, folder)
    return folder


def test_a_saved_run_is_evaluated_with_its_memory(run: Path) -> None:
    agent = load_agent(run)
    assert agent.evaluate(laps=3)[0]["num_episodes"] == 3
    seen = {"observation": torch.randn(5, 4)}
    without = agent.predict(seen)
    assert torch.equal(agent.predict({**seen, "memory": torch.zeros(5, 8)}), without)
    assert agent.quantiles({**seen, "memory": torch.randn(5, 8)}).shape[0] == 5


def test_an_exported_program_takes_and_gives_the_state(run: Path, tmp_path: Path) -> None:
    agent = load_agent(run)
    states = visited_states(agent, 40)
    assert len(states) == 2 and states[1].shape == (40, 8) and states[1].any()
    act = export_policy(GreedyPolicy(agent.actor), states, tmp_path / "policy.pt2")
    assert disagreements(agent, act, states) == 0
    program = torch.export.load(tmp_path / "policy.pt2").module()
    _, after = program(states[0][:3], states[1][:3])
    _, expected = agent.actor.greedy(states[0][:3], states[1][:3])
    torch.testing.assert_close(after, expected)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.network.core=gru"], r"^objective\.network\.core=GRU: learns from sequences; use replay=sequences"),
        (["replay=sequences"], r"^replay=Sequences: is for networks with memory"),
        (["objective.network.core=grru"], r"core='grru': unknown; did you mean gru"),
        ([*SEQUENCES, "objective.network.core=gru", "+replay.mini_race={}"], r"^replay\.mini_race: "),
        ([*SEQUENCES, "objective.network.core=gru", "replay.storage=frames"], r"storage='frames'"),
        ([*SEQUENCES, "objective.network.core=gru", "replay.length=0"], r"length=0"),
        ([*SEQUENCES, "objective.network.core=gru", "objective=dqn", "estimator=double"], r"it has a core"),
        ([*SEQUENCES, "objective.network.core=gru", "learner.compile=true"], r"^learner\.compile=True"),
        (["env=gym", "exploration=epsilon", "env.floats=[0,9]"], r"floats=\[0, 9\]: must be a list of numbers from 0"),
        (["env=gym", "exploration=epsilon", "env.floats=[]"], r"floats=\[\]"),
    ],
)
def test_wrong_settings_are_refused_by_name(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        quiet([*overrides, "precision=float32", "total_frames=64"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
