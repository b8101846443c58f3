"""Networks chosen in the configuration: runs from pixels, and what cannot be is refused in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainers.test_training import quiet, weights
from tm_torchrl.agents import load_agent
from tm_torchrl.agents.agent import make_agent
from tm_torchrl.agents.export import GreedyPolicy, disagreements, export_policy, visited_states
from tm_torchrl.data.saving.checkpoint import CheckpointError
from tm_torchrl.modules import ImpalaEncoder, NoisyLinear, PixelFloatEncoder, Unified
from tm_torchrl.settings import ConfigError, compose_settings

FEW_UPDATES = [
    "env.track=oval",
    "env.num_envs=4",
    "env.evaluation_limits.race_s=1",
    "collector=single",
    "collector.frames_per_batch=32",
    "precision=float32",
    "replay.learning_starts=64",
    "replay.batch_size=8",
    "replay.uses_per_transition=0.5",
    "evaluation.every_frames=1000",
    "evaluation.num=1",
    "total_frames=128",
    "log.tensorboard=false",
]
SIGHTS = {
    "classic": (["network=classic", "env.pixels=true"], PixelFloatEncoder),
    "btr-image-only": (
        [
            "network=btr",
            "exploration=noisy",
            "exploration.per_car=true",
            "env.pixels=true",
            "env.floats=false",
            "objective.network.image.width=1",
        ],
        ImpalaEncoder,
    ),
    "unified": (["network=unified", "env.pixels=true"], Unified),
}


@pytest.mark.parametrize("name", SIGHTS)
def test_pixels_train_in_a_few_updates(name: str, tmp_path: Path) -> None:
    settings, encoder_class = SIGHTS[name]
    summary = quiet([*FEW_UPDATES, *settings], tmp_path / "run")
    assert summary.frames == 128
    agent = load_agent(summary.folder)
    network = agent.actor.quantile_module.network
    assert type(network.encoder) is encoder_class
    torch.manual_seed(0)
    fresh = make_agent(compose_settings([*FEW_UPDATES, *settings])).actor.quantile_module.network
    assert network.state_dict().keys() == fresh.state_dict().keys()
    learnt = weights(summary.folder)
    assert any("encoder" in key and not key.endswith("epsilon") for key in learnt)
    first = next(key for key in learnt if key.endswith("layers.0.weight"))
    assert not torch.equal(learnt[first], fresh.state_dict()[first.partition("network.")[2]])
    states = visited_states(agent, 5)
    act = export_policy(GreedyPolicy(agent.actor), states, tmp_path / "policy.pt2")
    assert disagreements(agent, act, states) == 0


def test_floats_choose_layers_by_name() -> None:
    settings = [
        "objective.network.linear=noisy",
        "objective.network.activation=gelu",
        "objective.network.layer_norm=true",
    ]
    trunk = "objective.network.trunk={_target_: tm_torchrl.modules.ResidualTrunk, _partial_: true, num_blocks: 2}"
    network = make_agent(compose_settings([*settings, trunk])).actor.quantile_module.network
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(NoisyLinear) == 2  # of the advantages
    assert kinds.count(torch.nn.LayerNorm) == 2 + 2 + 2  # floats, trunk, two streams
    assert torch.nn.LeakyReLU not in kinds


def test_settings_of_a_part_win_over_what_the_network_hands_down() -> None:
    settings = ["network=impala", "env.pixels=true", "+objective.network.image.activation=gelu"]
    network = make_agent(compose_settings(settings)).actor.quantile_module.network
    kinds = [type(module) for module in network.encoder.pixels.modules()]
    assert torch.nn.GELU in kinds
    assert torch.nn.ReLU not in kinds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["network=classic"], "objective.network.image_shape=None: there are no images"),
        (["env.pixels=true"], "objective.network.image_shape=(1, 64, 64): "),
        (["env.floats=false"], "env.pixels=false, floats=false: the network would see nothing"),
        (
            ["network=impala", "env.pixels=true", "objective.network.image.pool_size=9"],
            "objective.network.image.pool_size=9: the last convolution leaves a map of 8 x 8",
        ),
        (["objective.network.fusion=unified"], "objective.network.fusion=unified: needs images and floats"),
        (["objective.network.activation=rellu"], "activation='rellu': unknown; did you mean relu?"),
        (["objective.network.linear=noisy"], "the network has noisy layers, but this exploration never draws"),
        (["exploration=noisy"], "actor: it has no noisy layers"),
        (
            ["network=classic", "env.pixels=true", "env.floats=false", "replay.mini_race={num_actions: 140}"],
            "replay.mini_race: needs the clock",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_networks_that_cannot_be(settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        quiet([*FEW_UPDATES, *settings], tmp_path / "run")
    assert message in str(caught.value)


def test_gymnasium_tasks_have_no_images() -> None:
    with pytest.raises(ConfigError, match="image_shape=None: there are no images"):
        make_agent(compose_settings(["network=impala", "env=gym"]))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    summary = quiet([*FEW_UPDATES, "objective.network.hidden_sizes=[8,8]"], tmp_path / "run")
    config = summary.folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    changed = text.replace("layer_norm: false", "layer_norm: true").replace("head_size: 256", "head_size: 16")
    assert text != changed
    config.write_text(changed, encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load_agent(summary.folder)
    # Norms move what lies behind them: layers 1 to 4 of the floats; 0 (another size) to 3 of each stream.
    lines = str(caught.value).splitlines()
    assert lines[0] == "the checkpoint is of another architecture; 12 modules differ:"
    where = "  quantile_module.network."
    assert f"{where}encoder.layers.1: only here" in lines
    assert f"{where}head.decoder.value.0: bias [16] here, [256] there; weight [16, 8] here, [256, 8] there" in lines
