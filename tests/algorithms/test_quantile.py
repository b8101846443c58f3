"""The quantile algorithm from settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from tm_torchrl.algorithms import QuantileAlgorithm, make_algorithm
from tm_torchrl.data import MiniRace
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task


def algorithm_of(settings: Mapping[str, Any]) -> QuantileAlgorithm:
    algorithm = make_algorithm({**settings, "precision": "float32"}, make_task(settings))
    assert isinstance(algorithm, QuantileAlgorithm)
    return algorithm


def test_a_mini_race_needs_its_clock() -> None:
    settings = compose_settings(["env.floats=[velocity]", "replay.mini_race={num_actions: 140}"])
    with pytest.raises(ConfigError, match=r"replay\.mini_race: needs the clock"):
        make_algorithm(settings, make_task(settings))


def test_the_linesight_recipe_has_its_potential() -> None:
    """The current point of the line lies at 62 to 64 of the floats."""
    settings = compose_settings(
        [
            "experiment=linesight",
            "network=mlp",
            "env.pixels=false",
            "replay.capacity=1000",
            "replay.learning_starts=500",
        ]
    )
    replay = algorithm_of(settings).memory
    (race,) = [part for part in replay.buffer._transform if isinstance(part, MiniRace)]
    assert race.potential is not None
    observation = torch.zeros(3, 184)
    observation[:, 62:65] = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0], [0.0, 300.0, 0.0]])
    assert race.potential(observation).tolist() == pytest.approx([-0.5, -0.2, -2.5])


def test_a_potential_that_cannot_be_is_named() -> None:
    potential = "{_target_: tm_torchrl.envs.rewards.Potential, per_metre: -0.1}"
    settings = compose_settings([f"replay.mini_race={{num_actions: 140, potential: {potential}}}"])
    with pytest.raises(ConfigError, match=r"^replay\.mini_race\.potential\.per_metre: .* did you mean per_m"):
        make_algorithm(settings, make_task(settings))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("estimator.temperature=abc", "estimator.temperature='abc'"),
        ("+estimator.temprature=1", "estimator.temprature: MunchausenEstimator"),
        ("estimator.temperature=-1", "estimator.temperature=-1"),
        ("target_update.tau=abc", "target_update.tau='abc'"),
    ],
)
def test_wrong_settings_of_the_learner_are_named(override: str, message: str) -> None:
    settings = compose_settings([override, "objective.network.hidden_sizes=[8]", "objective.network.head_size=8"])
    with pytest.raises(ConfigError) as caught:
        algorithm_of(settings)
    assert str(caught.value).startswith(message)


def test_noisy_layers_with_held_actions() -> None:
    settings = compose_settings(
        ["exploration=noisy", "objective.network.linear=noisy", "exploration.epsilon=0.1", "exploration.mean_steps=4"]
    )
    assert {"held_action", "held_steps"} <= set(algorithm_of(settings).policy.out_keys)
    settings["exploration"]["epsilon"] = None
    with pytest.raises(ConfigError, match=r"mean_steps=4: .*epsilon=null"):
        algorithm_of(settings)
