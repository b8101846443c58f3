"""Action blocks chosen in the configuration: they train, explore as asked for, and what cannot be is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainers.test_networks import FEW_UPDATES
from tests.trainers.test_training import quiet, weights
from tm_torchrl.agents import load_agent
from tm_torchrl.agents.agent import make_agent
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.modules import EpsilonGreedy
from tm_torchrl.modules.exploration import _Exploration
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task

BLOCKS = ["env.action_block=5", "env.num_previous_actions=25"]
SMALL = ["objective.network.hidden_sizes=[16]", "objective.network.head_size=16"]
RUNS = {
    "iqn": ["objective=iqn", "estimator=munchausen"],
    "iqn-attention": ["objective=iqn", "estimator=munchausen", "objective.network.mixer=attention"],
    "qrdqn-conv": ["objective=qrdqn", "estimator=double", "objective.network.mixer=conv", "exploration=epsilon"],
    "fqf-mlp": ["objective=fqf", "estimator=greedy", "objective.network.mixer=mlp", "exploration=boltzmann"],
    "nq-gru": ["objective=nq", "estimator=soft", "objective.network.mixer=gru", "exploration=epsilon_boltzmann"],
}


@pytest.mark.parametrize("name", RUNS)
def test_blocks_train_in_a_few_updates(name: str, tmp_path: Path) -> None:
    settings = [*FEW_UPDATES, *BLOCKS, *SMALL, *RUNS[name], "exploration.per_block=true"]
    if name != "iqn":
        settings.append("objective.network.value_per_slot=true")
    summary = quiet(settings, tmp_path / "run")
    assert summary.frames == 128
    agent, learnt = load_agent(summary.folder), weights(summary.folder)
    assert agent.predict(torch.zeros(264)).shape == (5,)
    torch.manual_seed(0)
    fresh = make_agent(compose_settings(settings)).actor.quantile_module.network.state_dict()
    heads = {key: value for key, value in learnt.items() if "head.decoder" in key}
    assert len(heads) >= 8
    assert [key for key, value in heads.items() if torch.equal(value, fresh[key.partition("network.")[2]])] == []


@pytest.mark.parametrize("per_block", [False, True])
@pytest.mark.parametrize("exploration", ["epsilon", "epsilon_boltzmann", "boltzmann", "perturbed", "noisy"])
def test_every_exploration_has_a_draw_for_each_block(exploration: str, per_block: bool) -> None:
    own = ["objective.network.linear=noisy", "exploration.epsilon=0.1"] if exploration == "noisy" else []
    settings = compose_settings(
        [
            *BLOCKS,
            *SMALL,
            f"exploration={exploration}",
            f"exploration.per_block={per_block}",
            *own,
        ]
    )
    policy = make_algorithm({**settings, "precision": "float32"}, make_task(settings)).policy
    found = [module for module in policy.modules() if isinstance(module, _Exploration)]
    drawing = [module for module in found if not (isinstance(module, EpsilonGreedy) and module.mean_steps > 1)]
    assert drawing
    assert {module.per_block for module in drawing} == {per_block}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["env.action_block=3"], "action_block=3: must be 1 (held 50 ms) or 5 (10 ms each)"),
        (["objective.network.mixer=gru"], "objective.network.mixer='gru', num_slots=None: "),
        ([*BLOCKS, "objective.network.mixer=atention"], "mixer='atention': unknown; did you mean attention?"),
        (["objective.network.value_per_slot=true"], "value_per_slot=True, num_slots=None: single actions"),
        (["exploration.per_block=true"], "per_block=true: the network decides single actions"),
        (
            [*BLOCKS, "exploration=epsilon", "exploration.per_block=true", "+exploration.mean_steps=4"],
            "per_block=true, mean_steps=4: held actions always fill whole blocks",
        ),
        (
            [
                *BLOCKS,
                "objective.network.linear=noisy",
                "exploration=noisy",
                "exploration.epsilon=null",
                "exploration.per_block=true",
            ],
            "per_block=true: needs random actions, but epsilon=null",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_blocks_that_cannot_be(settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        quiet([*FEW_UPDATES, *settings], tmp_path / "run")
    assert message in str(caught.value)
