"""Peers with our settings really have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.grids.cells import Cell, Suite
from benchmarks.peers import sb3, tianshou
from benchmarks.peers.pace import Pace


def pace_of(algorithm: str, environment: str) -> Pace:
    return Pace.of(Suite(tuned=None).settings(Cell(algorithm, environment, 0)))


def test_of_cartpole() -> None:
    found = pace_of("tianshou_iqn_equal", "cartpole")
    assert [found.learning_rate(at) for at in (0, 50_000)] == [2e-3, 2e-3]
    assert [found.epsilon(at) for at in (0, 4_000, 8_000)] == pytest.approx([1.0, 0.52, 0.04])
    assert (found.gamma, found.num_fractions, found.hidden_sizes) == (0.99, 8, (128, 128, 128))
    assert (found.num_envs, found.capacity, found.learning_starts, found.batch_size) == (8, 50_000, 1_000, 64)
    assert (found.steps_per_update, found.steps_per_batch, found.num_steps) == (64 // 16, 256, 1)
    assert (found.target_period, found.adam_epsilon, found.clip_norm) == (1 / 0.1, 1e-4, None)


def test_of_the_default_track() -> None:
    found = pace_of("sb3_qrdqn_equal", "hillside")
    assert found.learning_rate(500_000) == pytest.approx(1e-4)
    assert (found.gamma, found.epsilon(0), found.num_fractions) == (0.995, 0.1, 32)
    assert (found.num_envs, found.steps_per_update, found.num_steps, found.target_period) == (64, 16, 3, 50)
    assert found.steps_per_batch == 512
    assert (found.adam_epsilon, found.clip_norm) == (1e-4, 10.0)


def test_they_follow_what_was_tuned_for_ours() -> None:
    suite = Suite(tuned=None)
    suite.tuned = {"cartpole": {"qrdqn": ["replay.batch_size=32"], "sb3_qrdqn_equal": ["replay.batch_size=16"]}}
    assert Pace.of(suite.settings(Cell("sb3_qrdqn_equal", "cartpole", 0))).batch_size == 32
    settings = suite.settings(Cell("sb3_qrdqn_equal", "cartpole", 0))
    assert settings["peer"] == "benchmarks.peers.sb3:qrdqn_equal"
    assert settings["objective"]["loss"]["_target_"].endswith("QRDQNLoss")


def test_they_reach_sb3(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, how much is collected between updates too: with a step each they finished hardly a lap."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(sb3, "_train", lambda task, settings, **others: given.update(settings, **others))
    settings = Suite(tuned=None).settings(Cell("sb3_qrdqn_equal", "hillside", 0))
    sb3.qrdqn_equal(SimpleNamespace(settings=settings, total_frames=240_000))  # type: ignore[arg-type]
    assert given["policy_kwargs"]["optimizer_kwargs"] == {"eps": 1e-4}
    assert (given["max_grad_norm"], given["num_envs"], given["n_steps"]) == (10.0, 64, 3)
    assert (given["train_freq"], given["gradient_steps"]) == (512 // 64, 512 // 16)
    assert (given["epsilon"](1.0), given["gamma"]) == (0.1, 0.995)


@pytest.mark.parametrize("kind", ["qrdqn", "iqn"])
def test_they_reach_tianshou(kind: str) -> None:
    pytest.importorskip("tianshou")
    settings = Suite(tuned=None).settings(Cell(f"tianshou_{kind}_equal", "hillside", 0))
    task = SimpleNamespace(num_inputs=20, num_actions=12)
    algorithm = tianshou._make(task, kind, Pace.of(settings))[0]  # type: ignore[arg-type]
    group = algorithm.optim._optim.param_groups[0]
    assert (group["eps"], group["lr"], algorithm.optim._max_grad_norm) == (1e-4, pytest.approx(1e-3), 10.0)
